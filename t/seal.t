#!/bin/sh
. "$(dirname "$0")/tap.sh"
make_homes

expect "an empty message is a broken pipe upstream" 65 '' 'cspool-seal: standard input: empty, not a message' \
	on mailhost pipe 'cspool-seal </dev/null'
expect "so is an envelope line alone" 65 '' 'cspool-seal: *' \
	on mailhost pipe 'echo "From alice@example.org Tue Nov 24 08:00:00 2026" | cspool-seal'
expect "standard input closed" 65 '' 'cspool-seal: standard input: *' on mailhost pipe 'cspool-seal <&-'
expect "standard output closed" 74 '' 'cspool-seal: standard output: closed' on mailhost pipe 'echo mail | cspool-seal >&-'
expect "a full disk behind standard output" 75 '' 'cspool-seal: *no space left on device' \
	on mailhost pipe 'echo mail | cspool-seal >/dev/full'
expect "no such mailbox name" 65 '' "cspool-seal: not a mailbox name: 'a//b'" \
	on mailhost pipe 'echo mail | cspool-seal --mailbox=a//b'
expect "65 MiB are too long" 65 '' 'cspool-seal: standard input: longer than the 64 MiB *' \
	on mailhost pipe 'head -c 68157440 /dev/zero | cspool-seal'

# Octets are kept as they are; only line ends become CRLF on the other side.
roundtrip() { # NAME FORMAT FORMAT-EXPECTED
	# shellcheck disable=SC2059
	printf "$2" >message
	# shellcheck disable=SC2059
	printf "$3" >expected
	on mailhost pipe 'cspool-seal <message | cspool-append' && on laptop pipe 'cspool-fetch | cspool-apply'
	number=$((${number:-0} + 1))
	printf 'a SELECT INBOX\r\nb FETCH %d BODY.PEEK[]\r\nc LOGOUT\r\n' "$number" >commands
	on laptop cspool-imapd --preauth <commands >answer
	size=$(wc -c <expected)
	ok "$1" python3 -c "
import sys
answer = open('answer', 'rb').read()
literal = answer.partition(b'BODY[] {%d}\r\n' % $size)[2]
sys.exit(literal[:$size] != open('expected', 'rb').read() or not literal[$size:].startswith(b')\r\n'))"
}
roundtrip "a message" 'Subject: one\n\nhello\n' 'Subject: one\r\n\r\nhello\r\n'
roundtrip "without its envelope line" 'From a@example.org Tue Nov 24 08:00:00 2026\nSubject: two\n\nFrom here\n' \
	'Subject: two\r\n\r\nFrom here\r\n'
roundtrip "8-bit, NUL and a lone CR" 'Subject: \344\n\n\000\001a\rb\377\n' 'Subject: \344\r\n\r\n\000\001a\rb\377\r\n'
roundtrip "CRLF line ends" 'Subject: four\r\n\r\nx\r\n' 'Subject: four\r\n\r\nx\r\n'
roundtrip "no header" 'only text' 'only text'
roundtrip "no final newline" 'Subject: six\n\nx' 'Subject: six\r\n\r\nx'
roundtrip "empty lines first" '\n\n\nSubject: seven\n' '\r\n\r\n\r\nSubject: seven\r\n'
roundtrip "one octet" 'x' 'x'

# The same message twice is one message; to another mailbox it is another.
printf 'Delivery-date: one\nSubject: again\n\nx\n' >one
printf 'Delivery-date: two\nSubject: again\n\nx\n' >two
for message in one one two; do on mailhost pipe "cspool-seal <$message | cspool-append"; done
on mailhost pipe 'cspool-seal --mailbox=Lists/python <one | cspool-append'
expect "a delivery repeated" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 9 "is one message"
on laptop imap 'a LIST "" *' 'b STATUS Lists/python (MESSAGES)' >out
ok "a mailbox is made by name" grep -q '^\* LIST (\\HasNoChildren) "/" "Lists/python"' out
ok "and has its message" grep -q '^\* STATUS "Lists/python" (MESSAGES 1)' out

# Sizes are padded.
size_of() { on mailhost cspool-seal | wc -c; }
is "$(echo a | size_of)" "$(head -c 200 /dev/urandom | size_of)" "short messages have one size"

done_testing
