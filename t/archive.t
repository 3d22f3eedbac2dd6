#!/bin/sh
# Moving in and out: cspool-seal of mbox and Maildir, cspool-export.
. "$(dirname "$0")/tap.sh"
make_homes
corpus=${CSPOOL_CORPUS:-$top/t/mail}
seal="cspool-seal --to='$HOME/laptop/key.pub'"
moved_in() { on laptop pipe "$1 | cspool-append && cspool-sync"; }
flags() { on laptop imap "a SELECT $1" 'b FETCH 1:* (FLAGS INTERNALDATE)' | sed -n 's/^\* [0-9]* FETCH //p' | sed 's/\\Recent *//; s/ )/)/'; }
subjects() { on laptop imap "a SELECT $1" 'b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]' | sed -n 's/^Subject: //p' | xargs; }

# An mbox.
printf 'From bob@example.org Fri Jul  8 12:08:34 2011
Subject: one
Status: RO
X-Status: AF

>From here it is quoted,
>>From here twice,
> From not at all.

From is no line here? It is: an empty line is before it.
Subject: two

the last line
' >mbox
expect "an mbox" 0 '' '' moved_in "$seal --mbox --mailbox=Old <mbox"
is "$(subjects Old)" "one two" "has become a mailbox"
is "$(flags Old | head -n 1)" '(FLAGS (\Answered \Flagged \Seen) INTERNALDATE " 8-Jul-2011 12:08:34 +0000")' "with flags and time"
ok "unquoted" sh -c "CSPOOL_HOME=$HOME/laptop cspool-export --mbox --mailbox=Old | grep -q '^>From here it is quoted'"
on laptop cspool-export --mbox --mailbox=Old >again
is "$(sed '/^From /d' again)" "$(sed '/^From /d' mbox)" "and back, octet for octet"
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
expect "a Maildir" 65 '' 'cspool-seal: md/new/1000000006.M6.host: left out: empty, which no message is' \
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
done_testing
