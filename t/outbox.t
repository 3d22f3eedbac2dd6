#!/bin/sh
. "$(dirname "$0")/tap.sh"
make_homes
for number in 1 2 3; do printf 'Subject: %s\n\n1\n' $number | deliver; done
on laptop sync_home
on desktop sync_home
flags() { on "$1" imap 'a SELECT INBOX' 'b FETCH 1:* (UID FLAGS)' | grep '^\* [0-9]* FETCH' | sed 's/\\Recent *//' | tr '\n' ','; }

expect "no database" 66 '' 'cspool-outbox: none: no message database *' on laptop cspool-outbox --db=none
expect "another key" 78 '' 'cspool-outbox: not the key of this message database *' \
	on laptop cspool-outbox --key="$HOME/mailhost/key"
expect "an empty outbox is a whole stream" 0 '' '' on laptop pipe 'cspool-outbox | cspool-append'

on laptop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Flagged)' 'c STORE 2 +FLAGS (\Deleted)' 'd EXPUNGE' >out
mine=$(flags laptop)
is "$mine" '* 1 FETCH (UID 1 FLAGS (\Flagged)),* 2 FETCH (UID 3 FLAGS ()),' "changes take effect at once"
on laptop pipe 'cspool-fetch | cspool-apply'
is "$(flags laptop)" "$mine" "and stay when something is fetched"
count() { cspool-outbox | tail -c 48 | od -An -tu1 -j15 -N1 | tr -d ' '; } # of records: what the end frame says
is "$(on laptop count)" 1 "three changes are one record"
on laptop imap 'a SELECT INBOX' 'b STORE 2 +FLAGS (later)' 'c STORE 2 -FLAGS (later)' >/dev/null
is "$(on laptop count)" 2 "and what is changed after that is another"
expect "pushed" 0 '' '' on laptop pipe 'cspool-outbox | cspool-append'
expect "and pushed again" 0 '' '' on laptop pipe 'cspool-outbox | cspool-append'
expect "they come back in the log" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(flags laptop)" "$mine" "where they change nothing any more"
is "$(on laptop cspool-outbox | wc -c)" 48 "and have left the outbox"
expect "the other machine hears of them" 0 '' '' on desktop pipe 'cspool-fetch | cspool-apply'
is "$(flags desktop)" "$mine" "and shows the same"

# Both change something before they hear of each other.
on laptop imap 'a SELECT INBOX' 'b STORE 1 -FLAGS (\Flagged)' 'c STORE 2 +FLAGS (here)' >out
on desktop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Answered)' 'c STORE 2 +FLAGS (there)' >out
for _ in 1 2; do for home in laptop desktop; do on $home sync_home; done; done
is "$(flags laptop)" '* 1 FETCH (UID 1 FLAGS (\Answered)),* 2 FETCH (UID 3 FLAGS (here there)),' "both changes are there"
is "$(flags desktop)" "$(flags laptop)" "on both"

# A copy of a database, or one from a backup, goes on under another device id, and loses nothing.
cp -R "$HOME/laptop" "$HOME/clone"
on laptop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (laptop)' >out
on clone imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (clone)' 'c STORE 2 +FLAGS (clone)' >out
on laptop sync_home
on clone sync_home
on clone sync_home
on laptop sync_home
is "$(flags laptop)" '* 1 FETCH (UID 1 FLAGS (\Answered clone laptop)),* 2 FETCH (UID 3 FLAGS (clone here there)),' \
	"a cloned home: all changes are there"
is "$(flags clone)" "$(flags laptop)" "in both"

# A database made anew from the spool shows the same.
rm "$HOME"/clone/mail.db*
on clone sync_home
is "$(flags clone | sed 's/UID [0-9]*//g')" "$(flags laptop | sed 's/UID [0-9]*//g')" "a database made anew shows the same"

expect "nobody reads" 75 '' '' on laptop to_nobody cspool-outbox

done_testing
