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

done_testing
