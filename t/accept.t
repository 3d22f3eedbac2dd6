#!/bin/sh
# A spool that contradicts what the machines have seen, and a person who takes it for the true one all the same.
. "$(dirname "$0")/tap.sh"
make_homes
spool=$HOME/spool
subjects() {
	imap "a SELECT \"${1:-INBOX}\"" 'b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]' | sed -n 's/^Subject: //p' | sort | xargs
}
both() {
	for home in laptop desktop; do on $home cspool-sync || return; done
	on laptop cspool-sync
}
for subject in one two; do printf 'Subject: %s\n\n%s\n' $subject $subject | deliver; done
both
cp -R "$spool" backup

# What a backup of the spool does not have: mail, a mailbox, flags, a move, mail expunged, a change that has not gone out.
for subject in three four five; do printf 'Subject: %s\n\n%s\n' $subject $subject | deliver; done
both
on laptop imap 'a SELECT INBOX' 'b CREATE Work' 'c STORE 1 +FLAGS (\Flagged)' 'd STORE 3 +FLAGS (\Answered)' 'e MOVE 2,4 Work' \
	'f SUBSCRIBE Work' 'g STORE 3 +FLAGS (\Deleted)' 'h EXPUNGE' 'x APPEND Work {17}
Subject: draft

' >/dev/null
both
on laptop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (Offline)' >/dev/null
is "$(on laptop subjects); $(on laptop subjects Work)" "one three; draft four two" "before"
before=$(on laptop imap 'a SELECT INBOX' 'b FETCH 1:* (FLAGS)' 'c LIST (SUBSCRIBED) "" *' | grep -e FETCH -e LIST)

mv "$spool" newer
cp -R backup "$spool"
expect "a backup is put in place of the spool" 76 '' 'cspool-apply: the log ends at record *, but record * has been seen' on laptop cspool-sync
expect "cspool-status says what was seen" 1 '*attention *the log ends at record *' '' on laptop cspool-status
expect "also offline" 1 '*attention *the log ends at record *' '' on laptop cspool-status --offline
is "$(on laptop subjects); $(on laptop subjects Work)" "one three; draft four two" "nothing of it is applied"

state() { on laptop imap 'a SELECT INBOX' 'b FETCH 1:* (UID FLAGS MODSEQ)' 'c STATUS Work (MESSAGES UIDNEXT)'; }
state >was
expect "a stream that is cut is not accepted" 75 '' 'cspool-apply: standard input: cut off *' \
	on laptop pipe 'cspool-fetch --after=0 | head -c 3000 | cspool-apply --accept'
expect "nor one that begins later" 76 '' 'cspool-apply: record 1 missing' \
	on laptop pipe 'cspool-fetch --after=1 | cspool-apply --accept'
cp "$HOME/laptop/key" kept
cspool-keygen other
expect "nor with another key" 78 '' '*not the key of this message database*' \
	on laptop pipe 'cspool-fetch --after=0 | cspool-apply --accept --key=other'
state >is
ok "and nothing is done then" cmp was is
expect "accepted" 0 '3 messages that the log lacked will be sent again' '' on laptop pipe 'cspool-fetch --after=0 | cspool-apply --accept'
is "$(on laptop subjects); $(on laptop subjects Work)" "one three; draft four two" "all is there as it was"
is "$(on laptop imap 'a SELECT INBOX' 'b FETCH 1:* (FLAGS)' 'c LIST (SUBSCRIBED) "" *' | grep -e FETCH -e LIST)" "$before" \
	"with flags and subscriptions"
expect "the changes go out" 0 '' '' on laptop cspool-sync
expect "cspool-status is content" 0 '*' '' on laptop cspool-status

expect "another machine refuses too" 76 '' '*' on desktop cspool-sync
expect "and accepts, but sends nothing twice" 0 '0 messages that the log lacked will be sent again' '' \
	on desktop pipe 'cspool-fetch --after=0 | cspool-apply --accept'
expect "and all go on" 0 '' '' both
for home in laptop desktop; do
	is "$(on $home subjects); $(on $home subjects Work)" "one three; draft four two" "the same on $home"
done
printf 'Subject: six\n\n6\n' | deliver
expect "new mail comes" 0 '' '' both
is "$(on desktop subjects)" "one six three" "to both"

# Another spool in its place, empty: all is sent again, the trust in the mail host too.
mv "$spool" old
cspool-mkspool "$spool"
expect "a new spool is refused" 76 '' '*the spool is another one*' on laptop cspool-sync
expect "and accepted" 0 '6 messages *' '' on laptop pipe 'cspool-fetch --after=0 | cspool-apply --accept'
expect "its mail goes out" 0 '' '' on laptop cspool-sync
printf 'Subject: seven\n\n7\n' | deliver
expect "a machine with nothing gets all of it" 0 '*' '' on tablet cspool-setup --key="$HOME/laptop/key" "$spool"
is "$(on tablet subjects); $(on tablet subjects Work)" "one seven six three; draft four two" "mail and mailboxes"
expect "one that had the old spool accepts" 0 '0 messages *' '' on desktop pipe 'cspool-fetch --after=0 | cspool-apply --accept'
is "$(on desktop subjects); $(on desktop subjects Work)" "one seven six three; draft four two" "and has the same"


# A thief with the key has made another the user's: a new key, a new spool, and all mail is there. See cspool-security(7).
mkdir "$HOME/theft"
cspool-mkspool "$HOME/theft/spool"
use() { # SPOOL HOME...
	spool=$1
	shift
	for home; do echo "$HOME/theft/$spool" >"$HOME/$home/spool"; done
}
cspool-keygen "$HOME/first"
for home in eve one two; do
	mkdir -m 700 "$HOME/$home"
	cp "$HOME/first" "$HOME/$home/key"
	cp "$HOME/first.pub" "$HOME/$home/key.pub"
done
use spool eve one two
printf 'Subject: stolen\n\n1\n' | on one pipe "cspool-seal --to='$HOME/first.pub' | cspool-append"
for home in one two eve; do on $home cspool-sync; done
on one imap 'a CREATE Work' 'b SELECT INBOX' 'c STORE 1 +FLAGS (\Flagged)' >/dev/null
cspool-keygen "$HOME/eves"
on eve cspool-rekey "$HOME/eves" >/dev/null
on eve cspool-sync
expect "the thief was faster" 78 '' 'cspool-apply: record * makes * the key of the user: we need it' on one cspool-sync
cspool-mkspool "$HOME/theft/new"
cspool-keygen "$HOME/second"
use new one two
for home in one two; do
	cp "$HOME/second" "$HOME/$home/key"
	cp "$HOME/second.pub" "$HOME/$home/key.pub"
	expect "a new key and a new spool, on $home" 0 '*' '' on $home pipe 'cspool-fetch --after=0 | cspool-apply --accept'
	expect "and what $home has is sent" 0 '' '' on $home cspool-sync
done
on one cspool-sync
for home in one two; do
	ok "$home has the mail" on $home pipe "echo 'a SELECT INBOX
b FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])
c LOGOUT' | cspool-imapd --preauth | tr -d '\\r' | grep -A2 Flagged | grep -q 'Subject: stolen'"
done

# What is left is a key, and a stream: BACKUPS in cspool(7), as printed.
mkdir restored
cspool-fetch --after=0 "$HOME/theft/new" >restored/backup
mkdir -m 700 restored/.cspool
cp "$HOME/second" restored/.cspool/key
cp "$HOME/second.pub" restored/.cspool/key.pub
cd restored || exit
export HOME="$PWD"
sed -n '/^\.Sh BACKUPS/,/^\.Sh /s/^\$ //p' "$top/man/cspool.7" >commands
is "$(wc -l <commands)" 5 "five commands"
expect "restore a backup" 0 '1 message that the log lacked will be sent again' '' env -u CSPOOL_HOME sh -e commands
is "$(env -u CSPOOL_HOME sh -c 'cspool-fetch --after=0 | cspool-open | grep -c stolen')" 1 "into a new spool"
done_testing
