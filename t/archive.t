#!/bin/sh
# Moving in and out: cspool-seal of mbox and Maildir, cspool-export.
. "$(dirname "$0")/tap.sh"
make_homes
corpus=${CSPOOL_CORPUS:-$top/t/mail}
seal="cspool-seal --to='$HOME/laptop/key.pub'"
moved_in() { on laptop pipe "$1 | cspool-append && cspool-sync"; }
flags() { on laptop imap "a SELECT $1" 'b FETCH 1:* (FLAGS INTERNALDATE)' | sed -n 's/^\* [0-9]* FETCH //p' | sed 's/\\Recent *//; s/ )/)/'; }
subjects() { on laptop imap "a SELECT $1" 'b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]' | sed -n 's/^Subject: //p' | xargs; }
octets() { python3 -c 'import json, sys; [print(json.loads(line)["octets"], end="") for line in sys.stdin]'; }
mailboxes_as_subjects() {
	python3 -c 'import json, sys
rows = [json.loads(line) for line in sys.stdin]
print(*sorted(row["command"]["mailbox"] for row in rows if "Subject: %s\n" % row["command"].get("mailbox") in row["octets"]))'
}

# An mbox.
printf 'From bob@example.org Fri Jul  8 12:08:34 2011
Subject: one
Status: RO
X-Status: AF

>From here it is quoted,
>>From here twice,
> From not at all.

From here on it says no date, and is text.

From carol@example.org  Sat Jul  9 12:08 +0200 2011
Subject: two

the last line
' >mbox
expect "an mbox" 0 '' '' moved_in "$seal --mbox --mailbox=Old <mbox"
is "$(subjects Old)" "one two" "has become a mailbox"
is "$(flags Old | head -n 1)" '(FLAGS (\Answered \Flagged \Seen) INTERNALDATE " 8-Jul-2011 12:08:34 +0000")' "with flags and time"
ok "unquoted" sh -c "CSPOOL_HOME=$HOME/laptop cspool-export --mbox --mailbox=Old | grep -q '^>From here it is quoted'"
on laptop cspool-export --mbox --mailbox=Old >again
is "$(sed '/^From .*20/d' again)" "$(sed '/^From .*20/d; s/^From here/>&/' mbox)" "and back, octet for octet"
is "$(flags Old | tail -n 1)" '(FLAGS () INTERNALDATE " 9-Jul-2011 10:08:00 +0000")' "and the other one's time, of its zone"
printf 'From a\n\n>From b is its first line\n\nFrom c\nSubject: x\n\ny\n' >undated
is "$(on laptop pipe "$seal --mbox <undated | CSPOOL_HOME=$HOME/laptop cspool-open" | octets)" "$(printf '\nFrom b is its first line\nSubject: x\n\ny')" \
	"where the first line says no date, none has to"
expect "twice is once" 0 '' '' moved_in "$seal --mbox --mailbox=Old <mbox"
is "$(subjects Old)" "one two" "the same two"
expect "no mbox" 66 '' 'cspool-seal: standard input: no mbox *' on laptop pipe "echo x | $seal --mbox"
expect "an empty one" 0 '' '' moved_in "$seal --mbox </dev/null"
expect "cut off, it is a stream that nobody takes" 75 '' 'cspool-append: standard input: cut off *' \
	on laptop pipe "$seal --mbox <mbox | head -c 1500 | cspool-append"
expect "a mailbox that cannot be" 65 '' 'cspool-seal: not a mailbox name: *' on laptop pipe "$seal --mbox --mailbox=a//b <mbox"
expect "no such mailbox" 66 '' 'cspool-export: none: no such mailbox' on laptop cspool-export --mbox --mailbox=none

# A Maildir, as Dovecot keeps it: folders with dots, keywords, names in modified UTF-7.
make_maildir() { mkdir -p "$1/cur" "$1/new" "$1/tmp"; }
make_maildir md
make_maildir "md/.Lists.a"
make_maildir "md/.Entw&APw-rfe"
echo uidlist >md/dovecot-uidlist
printf '0 $Label1\n1 work\n' >md/.Lists.a/dovecot-keywords
printf 'Subject: new\n\n1\n' >md/new/1000000001.M1.host
printf 'Subject: seen\n\n2\n' >md/cur/1000000002.M2.host:2,FRS
printf 'Subject: listed\n\n3\n' >'md/.Lists.a/cur/1000000003.M3.host:2,Sab'
printf 'Subject: half\n\n4\n' >'md/.Lists.a/tmp/1000000004.M4.host'
printf 'Subject: draft\n\n5\n' >"md/.Entw&APw-rfe/cur/1000000005.M5.host:2,D"
: >md/new/1000000006.M6.host
touch -d '2001-09-09 01:46:40 UTC' md/cur/* md/new/*
expect "a Maildir" 65 '' 'cspool-seal: md/new/1000000006.M6.host: left out: empty, not a message' \
	on laptop pipe "$seal --maildir=md >stream"
expect "has its end" 0 '' '' moved_in 'cat stream'
is "$(subjects INBOX)" "new seen" "its messages are there"
is "$(flags INBOX | tail -n 1)" '(FLAGS (\Answered \Flagged \Seen) INTERNALDATE " 9-Sep-2001 01:46:40 +0000")' "with flags and time"
is "$(subjects Lists/a) $(flags Lists/a | cut -d' ' -f2-4)" 'listed ($Label1 \Seen work)' "folders and keywords"
is "$(on laptop imap 'a LIST "" E*' | head -n 2 | tail -n 1)" '* LIST (\HasNoChildren) "/" "Entw&APw-rfe"' "and names"
expect "of a mail host" 0 '' '' on mailhost pipe "cspool-seal --maildir=md --mailbox=Host 2>/dev/null | cspool-append && CSPOOL_HOME=$HOME/laptop cspool-sync"
is "$(subjects Host)" "new seen" "comes below a mailbox"
ok "without flags, for no host sets any" sh -c "! echo '$(flags Host)' | grep -q Seen"
expect "no such directory" 66 '' 'cspool-seal: none: no such directory' on laptop pipe "$seal --maildir=none"

# And out again.
expect "written as a Maildir" 0 '' '' on laptop cspool-export --maildir=written
is "$(find written -type f -path '*cur*' | wc -l)" 10 "all messages"
is "$(cat written/Lists/a/cur/*)" "$(cat md/.Lists.a/cur/*)" "octet for octet"
is "$(basename written/Lists/a/cur/*:2,Sab)" "$(cd written/Lists/a/cur && echo *)" "with flags and keywords"
is "$(stat -c %Y written/Lists/a/cur/*)" "$(stat -c %Y md/.Lists.a/cur/*)" "and time"
touch written/INBOX/cur/foreign written/mark
expect "again" 0 '' '' on laptop cspool-export --maildir=written
is "$(find written -newer written/mark -type f)" "" "nothing is written that has not changed"
on laptop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Seen)' 'c STORE 2 +FLAGS (\Deleted)' 'd EXPUNGE' 'e DELETE Lists/a' >/dev/null
expect "what has changed" 0 '' '' on laptop cspool-export --maildir=written
is "$(cd written/INBOX/cur && echo * | sed 's/[0-9.]*[0-9a-f]*\.cspool/F/')" "F:2,S foreign" "is: a flag, a message that is gone; and foreign files stay"
is "$(find written/Lists -type f -path '*cur*')" "" "and a mailbox that is gone"
# Names that no folder can have, one for each mailbox, and back again.
long=$(printf 'x%.0s' $(seq 300))
for name in .foo %2efoo %63ur cur a a/dovecot-keywords "b/${long}1" "b/${long}2" ...; do
	printf 'Subject: %s\n\n.\n' "$name" | on laptop pipe "$seal --mailbox='$name' | cspool-append" || echo "not $name"
done
on laptop cspool-sync
expect "odd names" 0 '' '' on laptop cspool-export --maildir=odd
expect "and once more" 0 '' '' on laptop cspool-export --maildir=odd
is "$(cat odd/*/cur/* odd/*/*/cur/* | sed -n 's/^Subject: //p' | grep -E '^([.%]|cur|a|b)' | sort | uniq -c | wc -l)" 9 "have a folder each"
is "$(on laptop pipe "$seal --maildir=odd | CSPOOL_HOME=$HOME/laptop cspool-open" | mailboxes_as_subjects)" \
	"%2efoo %63ur ... .foo a a/dovecot-keywords cur" "and become the same mailboxes again"

# What must not pass in silence.
mkdir -p closed/sub
if [ "$(id -u)" != 0 ]; then
	chmod 0 closed/sub
	expect "a folder that cannot be read" 77 '' 'cspool-seal: closed/sub: permission denied' on laptop pipe "$seal --maildir=closed"
fi
expect "two at a time" 75 '' 'cspool-export: odd: another cspool-export is at work' \
	flock odd env CSPOOL_HOME="$HOME/laptop" cspool-export --maildir=odd
mkdir -p odd/.index && echo x >odd/.index/x
is "$(on laptop pipe "$seal --maildir=odd | CSPOOL_HOME=$HOME/laptop cspool-open" | grep -c index)" 0 "what is hidden and no Maildir is no mail"
echo half >"odd/a/tmp/1.$(printf 'a%.0s' $(seq 32)).cspool:2,S"
expect "what a run that was killed has left" 0 '' '' on laptop cspool-export --maildir=odd
is "$(find odd/a/tmp -type f)" "" "is removed"
make_maildir odd/mine
echo '0 mine' >odd/mine/dovecot-keywords
on laptop imap 'a DELETE a/dovecot-keywords' >/dev/null
on laptop cspool-export --maildir=odd
ok "an empty Maildir that is somebody's stays" test -d odd/mine/cur -a -s odd/mine/dovecot-keywords
ok "and so is the folder of a mailbox that is gone" test ! -e odd/a/%64ovecot-keywords -a -e odd/a/cur
expect "a name that is none" 65 '' 'cspool-export: not a mailbox name: *' on laptop cspool-export --mbox --mailbox=a//b
expect "INBOX in any case" 0 '*Subject*' '' on laptop cspool-export --mbox --mailbox=inbox
expect "an option without a value" 66 '' 'cspool-seal: : no such directory' on laptop pipe "$seal --maildir= </dev/null"

# Long ones.
mkdir long && printf 'Subject: 1\n\n1\n' >long/1 && truncate -s 3G long/2 && printf 'Subject: 3\n\n3\n' >long/3
expect "a message that is too long is left out" 65 '' 'cspool-seal: long/2: left out: longer than the 64 MiB *' \
	on laptop pipe "ulimit -v 1000000; $seal --maildir=long >stream"
is "$(on laptop pipe 'cspool-open <stream | grep -c Subject')" 2 "and the others are there"
expect "so in an mbox" 65 '' 'cspool-seal: message 2: left out: longer than the 64 MiB *' on laptop pipe "ulimit -v 1000000;
	(printf 'From a Wed Dec 02 08:05:00 2020\nSubject: 1\n\n1\n\nFrom a Wed Dec 02 08:05:00 2020\n'; head -c 300M /dev/zero
	printf '\n\nFrom a Wed Dec 02 08:05:00 2020\nSubject: 3\n\n3\n') | $seal --mbox >stream"
is "$(on laptop pipe 'cspool-open <stream | grep -c Subject')" 2 "and the others are there"

# All of the corpus, in, out and in again.
n=$(find "$corpus" -type f | wc -l)
expect "a directory of files" 0 '*' '*' on laptop pipe "$seal --maildir='$corpus' --mailbox=Corpus | cspool-append && cspool-sync"
expect "out" 0 '' '' on laptop cspool-export --maildir=all
is "$(find "$corpus" -type f ! -empty -exec sh -c 'tr -d "\r" <"$1" | sha256sum' - {} \; | sort | uniq -c | wc -l)" \
	"$(find all/Corpus -type f -path '*cur*' -exec sh -c 'tr -d "\r" <"$1" | sha256sum' - {} \; | sort | uniq -c | wc -l)" \
	"as many different messages of $n"
find "$corpus" -type f -exec sh -c 'sed "1{/^From /d}" <"$1" | tr -d "\r" | sha256sum' - {} \; | sort -u >in.sums
find all/Corpus -type f -path '*cur*' -exec sh -c 'tr -d "\r" <"$1" | sha256sum' - {} \; | sort -u >out.sums
is "$(comm -3 in.sums out.sums)" "" "octet for octet, but for CR"
# What was expunged here does not come back with an import of an export, and this is said.
on laptop cspool-sync
on laptop cspool-export --maildir="$HOME/exported"
before=$(on laptop count_messages)
on laptop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Deleted)' 'c EXPUNGE' >/dev/null
on laptop cspool-sync
expect "an export that is imported again" 0 '*' '*' on laptop pipe "$seal --maildir='$HOME/exported' | cspool-append"
expect "what was expunged is said to stay so" 65 '' '*a message that has been expunged does not come back*' on laptop cspool-sync
is "$(on laptop count_messages)" $((before - 1)) "and stays so"
ok "the user's own key is no host that is not trusted" on laptop pipe '! cspool-status | grep "not trusted"'
ok "nor listed as one" on laptop pipe '! cspool-trust --list | grep untrusted'
done_testing
