#!/bin/sh
# procmail and maildrop, with their examples: a mailing list to its own mailbox, and what fails stays with the mail server.
. "$(dirname "$0")/machine.sh"
need procmail maildrop
examples=/usr/local/share/doc/cspool/examples
install -m 644 "$examples/procmailrc" "$scratch/alice/.procmailrc"
install -m 600 -o alice "$examples/mailfilter" "$scratch/alice/.mailfilter"

for mda in procmail maildrop; do
	message() { printf 'From: bob@example.org\nSubject: %s\n%s\nhello\n' "$mda-$1" "${2:-}" | as alice "$mda"; }
	expect "$mda delivers" 0 '' '' message one
	expect "a mailing list" 0 '' '' message list "List-Id: users of x <users.example.org>
"
	# shellcheck disable=SC2016 # what a shell would do with it is the question
	expect "a list that would run a command" 0 '' '' message odd 'List-Id: <x";touch$IFS./pwned;`touch$IFS./pwned`"y.example.org>
'
	expect "two at once" 0 '' '' message two
	stop_spoolhost
	expect "the spool host is away" 75 '' '*' message away
	start_spoolhost
	expect "and is back" 0 '' '' message away
	mv "$scratch/alice/.cspool/key" "$scratch/alice/kept"
	expect "no key" 75 '' '*key: no such file or directory*' message keyless
	mv "$scratch/alice/kept" "$scratch/alice/.cspool/key"
done
is "$(subjects alice Lists/x)" "procmail-odd maildrop-odd" "the name of a mailbox ends where it is none"
is "$(subjects alice Lists/users)" "procmail-list maildrop-list" "a mailbox for the list"
is "$(subjects alice)" "procmail-one procmail-two procmail-away maildrop-one maildrop-two maildrop-away" \
	"the rest in INBOX, each once"
ok "no command was run" sh -c "! find $scratch/alice -name pwned | grep ."
ok "and no mail was left readable" sh -c "! grep -rq hello $scratch/alice /var/mail --exclude=*.db*"

done_testing
