"""An IMAP server for a client of a message database (RFC 9051, RFC 3501).

    connection  reads lines and literals, writes answers, on two file descriptors
    grammar     parses a client's command
    server      reads a command, finds its verb, sends its answer
    verbs       the table of verbs, and the verbs that name neither a mailbox nor a message
    mailboxes   the verbs that name a mailbox, and those that leave it
    messages    the verbs on messages of the selected mailbox
    append      APPEND and REPLACE
    quota       QUOTA
    tls         TLS for a connection
    passwords   one for each device
    guesses     wrong passwords, and how long the next one has to wait
    session     the client: login, enabled extensions, selected mailbox, changes
    selected    the selected mailbox as the client has been told of it
    listing     LIST and LSUB
    status      STATUS
    fetch       FETCH
    pieces      parts of messages, for a client that fetches them piece by piece
    notify      NOTIFY: what the client is told of between its commands
    filters     which mailboxes it means
    searches    the verbs that search, and what RETURN makes of what is found
    search      search keys
    sort        SORT
    thread      THREAD
    sets        sets of UIDs

connection, grammar and sets know nothing of the database. All answers go out through connection.
"""
