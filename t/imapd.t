#!/bin/sh
. "$(dirname "$0")/tap.sh"
make_homes
printf 'Subject: one\n\n1\n' | deliver
on laptop sync_home

# Starting
expect "no database" 66 '\* BYE \[UNAVAILABLE\] *mail.db: no message database *' 'cspool-imapd: *mail.db: no message database *' \
	on mailhost cspool-imapd --preauth
expect "end of input ends it" 0 '\* PREAUTH *
\* BYE End of input*' '' on laptop pipe 'cspool-imapd --preauth </dev/null'
expect "no login without a password" 0 '*LOGINDISABLED*a NO \[PRIVACYREQUIRED\] No password is set*' '' \
	on laptop pipe 'printf "a LOGIN alice secret\r\nb LOGOUT\r\n" | cspool-imapd'
expect "an empty password" 78 '' 'cspool-imapd: the password is empty' on laptop pipe 'echo | cspool-imapd --set-password'
expect "a password" 0 '' '' on laptop pipe 'echo secret | cspool-imapd --set-password'
is "$(stat -c %a "$HOME/laptop/imap.passwd")" 600 "its hash is for its owner only"
ok "and does not hold it" sh -c "! grep -q secret $HOME/laptop/imap.passwd"
expect "login" 0 '*a OK \[CAPABILITY IMAP4rev1*\] Logged in*b OK*' '' \
	on laptop pipe 'printf "a LOGIN alice \"secret\"\r\nb SELECT INBOX\r\nc LOGOUT\r\n" | cspool-imapd'
expect "a wrong password, then none of the rest" 0 '*a NO \[AUTHENTICATIONFAILED\]*b BAD Not in the not authenticated state*' '' \
	on laptop pipe 'printf "a LOGIN alice wrong\r\nb SELECT INBOX\r\nc LOGOUT\r\n" | cspool-imapd'
plain=$(printf '\0alice\0secret' | base64)
expect "AUTHENTICATE PLAIN" 0 '*+ *a OK*' '' \
	on laptop pipe "printf 'a AUTHENTICATE PLAIN\r\n$plain\r\nc LOGOUT\r\n' | cspool-imapd"
expect "with the answer at once" 0 '*a OK*' '' \
	on laptop pipe "printf 'a AUTHENTICATE PLAIN $plain\r\nc LOGOUT\r\n' | cspool-imapd"
expect "cancelled" 0 '*a BAD Cancelled*' '' \
	on laptop pipe "printf 'a AUTHENTICATE PLAIN\r\n*\r\nc LOGOUT\r\n' | cspool-imapd"

# On an internet socket
CSPOOL_HOME=$HOME/laptop python3 "$here/listen.py" 0 cspool-imapd --preauth >port 2>listen.err &
pids="$pids $!"
await test -s port
expect "--preauth is refused on an internet socket" 0 "*BYE \[UNAVAILABLE\] --preauth: anyone could use an internet socket*" '' \
	python3 -c "
import socket
with socket.create_connection(('127.0.0.1', $(cat port))) as server:
    print(server.makefile().read())"
CSPOOL_HOME=$HOME/laptop python3 "$here/listen.py" 0 cspool-imapd >port2 &
pids="$pids $!"
await test -s port2
expect "imaplib logs in and reads over one" 0 'Subject: one' '' python3 -c "
import imaplib
server = imaplib.IMAP4('127.0.0.1', $(cat port2))
server.login('alice', 'secret')
server.select()
print(server.fetch('1', 'BODY[HEADER.FIELDS (SUBJECT)]')[1][0][1].decode().strip())
server.logout()"

on laptop imap "$(head -c 200000 /dev/zero | tr '\0' x)" 'z NOOP' >out
is "$(tail -n 1 out)" '* BYE Line too long' "a line without end ends the session"

# Hostile input gets a BAD, and the session goes on.
bad() { # NAME COMMAND EXPECTED
	on laptop imap 'a SELECT INBOX' "$2" 'z NOOP' >out 2>err
	ok "$1" sh -c "grep -qE '$3' out && grep -q '^z OK' out && ! test -s err" || cat out
}
bad "an unknown command" 'b NONSENSE' '^b BAD'
bad "no command" 'b' '^b BAD'
bad "no tag" '* x' '^\* BAD'
bad "a section that is none" 'b FETCH 1 BODY[1.2.NONSENSE]' '^b BAD'
bad "an endless number" 'b FETCH 99999999999999999999 FLAGS' '^b BAD'
bad "a number that no message has" 'b FETCH 7 FLAGS' '^b BAD'
bad "a set past the end" 'b FETCH 7:* UID' '^\* 1 FETCH \(UID 1\)'
bad "an open parenthesis" 'b FETCH 1 (FLAGS' '^b BAD'
bad "an open quote" 'b SEARCH SUBJECT "x' '^b BAD'
bad "parentheses without end" "b SEARCH $(printf '(%.0s' $(seq 2000))" '^b BAD'
bad "NOT without end" "b SEARCH $(printf 'NOT %.0s' $(seq 2000))ALL" '^b BAD'
bad "a literal that is too long" 'b SEARCH SUBJECT {9999999}' '^b BAD Literal too long'
bad "a message that is too long" 'b APPEND INBOX {99999999999}' '^b NO \[TOOBIG\]'
bad "a flag that is none" 'b STORE 1 +FLAGS (\Nonsense)' '^b NO'
bad "\\Recent is nobody's to set" 'b STORE 1 +FLAGS (\Recent)' '^b OK'
bad "a mailbox that is not there" 'b STATUS nowhere (MESSAGES)' '^b NO \[NONEXISTENT\]'
bad "a copy to one" 'b COPY 1 nowhere' '^b NO \[TRYCREATE\]'
bad "a name that is no UTF-7" 'b SELECT "&AAA"' '^b (NO|BAD)'
bad "binary" "$(printf 'b \001\002\377')" '^b BAD'
bad "a charset that nobody knows" 'b SEARCH CHARSET x SUBJECT y' '^b NO \[BADCHARSET'
bad "a date that is none" 'b SEARCH SINCE 31-Feb-2026' '^b BAD'
expect "too many of them end the session" 0 '*\* BYE Too many bad commands*' '' \
	on laptop pipe "yes x | head -50 | cspool-imapd --preauth"

# A read-only mailbox changes nothing.
printf 'Subject: two\n\n2\n' | deliver
on laptop sync_home
on laptop imap 'a EXAMINE INBOX' 'b STORE 2 +FLAGS (\Seen)' 'c FETCH 2 BODY[]' 'd FETCH 2 FLAGS' 'e EXPUNGE' >out
ok "EXAMINE: STORE is refused" grep -q '^b NO \[READ-ONLY\]' out
ok "EXAMINE: BODY[] sets nothing" grep -q '^\* 2 FETCH (FLAGS (\\Recent))' out
ok "EXAMINE: EXPUNGE is refused" grep -q '^e NO' out
on laptop imap 'a SELECT INBOX' 'c FETCH 2 BODY.PEEK[]' 'd FETCH 2 FLAGS' >out
ok "SELECT: BODY.PEEK[] sets nothing, and the message is still recent" grep -q '^\* 2 FETCH (FLAGS (\\Recent))' out
on laptop imap 'a SELECT INBOX' 'c FETCH 2 BODY[]' >out
ok "SELECT: BODY[] sets \\Seen, and says so" grep -q '^ FLAGS (\\Seen))' out

done_testing
