"""An IMAP server over one message database, on a pipe (RFC 3501).

    connection  octets in and out: lines, literals, limits
    grammar     what a client's command says
    server      reads a command, finds its verb, answers
    verbs       the verbs, one function each
    session     who is logged in, what is selected, what it has been told
    fetch       FETCH items; search: SEARCH keys; names: mailbox names

grammar knows nothing of the database; what answers, writes through connection.
"""
