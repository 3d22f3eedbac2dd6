#!/bin/sh
# Moving in from another IMAP server, as cspool(7) says: mbsync through two tunnels. The other server is a second home.
. "$(dirname "$0")/tap.sh"
need mbsync
make_homes
mkdir -p bob && cspool-keygen bob/key 2>/dev/null && cspool-mkspool bob/spool && echo "$PWD/bob/spool" >bob/.spool
mv bob/spool bobspool && echo "$PWD/bobspool" >bob/spool && rm bob/.spool
bob() { CSPOOL_HOME=$PWD/bob "$@"; }
bob cspool-sync --quiet

# What is there: three mailboxes, flags, keywords, dates, a name with a mailbox below it that holds no messages.
python3 - <<'EOF' | on laptop sh -c "cspool-seal --commands --to='$HOME/laptop/key.pub' | cspool-append"
import json
flags = [["\\Seen"], ["\\Flagged", "$Label1"], ["\\Answered", "\\Seen", "work"], ["$Forwarded"]]
for number, mailbox in enumerate(["INBOX", "INBOX", "Lists/a", "Entw\u00fcrfe", "top/below"]):
    command = {"command": "deliver", "date": 1_000_000_000 + number, "mailbox": mailbox, "flags": flags[number % 4]}
    text = f"Subject: {number}\nMessage-ID: <{number}@example.org>\n\n{number}\n"
    print(json.dumps({"command": command, "octets": text}))
EOF
on laptop cspool-sync --quiet
for part in 1 2; do
	sed -n '/^\.Sh MOVING IN/,/^\.Sh BACKUPS/p' "$top/man/cspool.7" | awk -v part=$part '
		/^\.Bd/ { block++; next } /^\.Ed/ { inside = 0; next } { if (block == part + 1 && !/^\./) print > "/dev/stdout" }
		/^\.Pp/ { if (block == part + 1) exit }' >part.$part
done
sed "s|ssh -q old.example.org /usr/lib/dovecot/imap|env CSPOOL_HOME=$HOME/laptop cspool-imapd --preauth|; s|~/|$PWD/|" part.1 >mbsyncrc
sed "s|~/|$PWD/|; s|^\\$ ||; s|mbsync -c|mbsync -q -c|" part.2 >commands
is "$(grep -c . mbsyncrc) $(grep -c . commands)" "12 3" "the manual has a file and commands"
expect "they run as printed" 0 '' '*' bob sh -e commands

state() { # HOME: mailboxes, and subject, flags and date of all messages
	cspool-export --db="$1/mail.db" --maildir="$1.out"
	python3 - "$1.out" <<-'EOF'
		import sys
		sys.path.insert(0, __import__("os").environ["LIB"])
		from cspool.archive import LeftOut
		from cspool.archive.tree import Tree
		for one in sorted(Tree(sys.argv[1], "INBOX", LeftOut()), key=lambda one: one.octets):
		    text = "\n".join(line for line in one.octets.decode().split("\n") if not line.startswith("X-TUID"))
		    print(one.mailbox, sorted(one.flags), one.date, repr(text))
	EOF
}
LIB=$top/lib
export LIB
state "$HOME/laptop" >there
state "$PWD/bob" >here
is "$(wc -l <here)" 5 "all messages are here"
sed "s/'work'//; s/'\$Label1', //; s/, \]/]/" there >expected
ok "with their mailboxes, flags, dates and octets, but not with other keywords" cmp expected here
is "$(bob imap 'a LIST "" top*' | sed -n 's/^\* LIST //p')" "$(printf '(\\HasChildren) "/" "top"\n(\\HasNoChildren) "/" "top/below"')" \
	"a name without messages is an empty mailbox"
expect "again" 1 '' '*far side box Lists cannot be opened*far side box top cannot be opened*' bob sh -e commands
state "$PWD/bob" >again
ok "nothing comes twice" cmp here again
done_testing
