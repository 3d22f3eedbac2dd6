#!/bin/sh
. "$(dirname "$0")/tap.sh"
make_homes
printf 'Subject: one\n\n1\n' | deliver

expect "a new message" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(stat -c %a "$HOME/laptop/mail.db")" 600 "the database is for its owner only"
is "$(on laptop count_messages)" 1 "is there"
expect "twice is once" 0 '' '' on laptop pipe 'cspool-fetch --after=0 | cspool-apply'
is "$(on laptop count_messages)" 1 "is still one"
expect "nothing new" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
expect "a stream that was never in a spool" 65 '' 'cspool-apply: standard input: not read from a spool *' \
	on laptop pipe 'CSPOOL_HOME=~/mailhost cspool-seal <"$HOME/spool/format" | cspool-apply'
expect "an empty one" 75 '' 'cspool-apply: standard input: empty: *' on laptop pipe 'cspool-apply </dev/null'

# Cut off, what is whole is used.
for number in 2 3; do printf 'Subject: %s\n\n1\n' $number | deliver; done
cspool-fetch --after=0 "$HOME/spool" >stream
expect "a stream cut off" 75 '' 'cspool-apply: standard input: cut off after frame *' \
	on desktop pipe "head -c $(($(wc -c <stream) - 200)) stream | cspool-apply"
is "$(on desktop count_messages)" 1 "gives the messages before the cut, but the last, which nothing confirms"
expect "and goes on from there" 0 '' '' on desktop pipe 'cspool-fetch | cspool-apply'
is "$(on desktop count_messages)" 3 "to the last"

# What does not open or is not allowed is set aside, and mail after it arrives.
cspool-keygen --comment=mallory stranger
echo junk | cspool-seal --from=stranger --to=stranger.pub | on mailhost cspool-append
printf 'Subject: forged\n\n1\n' | cspool-seal --from=stranger --to="$HOME/laptop/key.pub" | on mailhost cspool-append
printf 'Subject: four\n\n1\n' | deliver
expect "junk and a stranger's mail" 65 '' \
	'cspool-apply: record 5 is set aside: does not open with this key
cspool-apply: record 6 is set aside: signed by a key that is not trusted (*)' \
	on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 4 "do not block what comes after"
expect "and are said once" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'

# A full disk, for which a limit on the size of files stands.
head -c 3000000 /dev/urandom | base64 | deliver
expect "no room for a message" 75 '' 'cspool-apply: *mail.db: *' \
	on laptop sh -c 'cspool-fetch >new; ulimit -f 2000; cspool-apply <new'
is "$(on laptop count_messages)" 4 "leaves the database as it was"
expect "and it goes on when there is room" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 5 "with that message"

# Another key, or another home's database.
expect "not the key of this database" 78 '' 'cspool-apply: not the key of this message database *' \
	on laptop pipe 'cspool-fetch --after=0 | cspool-apply --key=stranger'
expect "not a database" 78 '' 'cspool-apply: stream: not a message database *' \
	on laptop pipe 'cspool-fetch | cspool-apply --db=stream'

# Logs that contradict what has been seen: exit 76, and nothing is applied.
cp -R "$HOME/spool" "$HOME/forked"
cspool-mkspool "$HOME/fresh"
expect "another spool" 76 '' 'cspool-apply: the spool is another one: *' \
	on laptop pipe 'cspool-fetch ~/fresh | cspool-apply'
printf 'Subject: five\n\n1\n' | deliver
on laptop pipe 'cspool-fetch | cspool-apply'
expect "rolled back" 76 '' 'cspool-apply: the log ends at record 8, but record 9 has been seen' \
	on laptop pipe 'cspool-fetch ~/forked | cspool-apply'
printf 'Subject: other five\n\n1\n' | on mailhost pipe 'cspool-seal | cspool-append ~/forked'
expect "forked, of the same length" 76 '' 'cspool-apply: the log up to record 9 is not the one that has been seen' \
	on laptop pipe 'cspool-fetch ~/forked | cspool-apply'
printf 'Subject: other six\n\n1\n' | on mailhost pipe 'cspool-seal | cspool-append ~/forked'
expect "forked, and longer" 76 '' 'cspool-apply: record 10 does not continue the log that has been seen' \
	on laptop pipe 'cspool-fetch ~/forked | cspool-apply'
is "$(on laptop count_messages)" 6 "nothing of it was applied"
expect "records left out" 76 '' 'cspool-apply: record 10 missing' on laptop pipe \
	'printf "Subject: six\n\n1\n" | CSPOOL_HOME=~/mailhost cspool-seal | cspool-append; cspool-fetch --after=10 | cspool-apply'
printf 'Subject: seven\n\n1\n' | deliver
expect "records left out in front" 76 '' 'cspool-apply: record 10 missing' \
	on laptop pipe 'cspool-fetch --after=10 | cspool-apply'
expect "the true log goes on" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 8 "to the last message"

# Two clients that were shown different logs meet again: the change says what its author has seen.
expect "a client on the fork" 65 '' '*set aside*' on desktop pipe 'cspool-fetch ~/forked | cspool-apply'
on desktop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Flagged)' >out
on desktop pipe 'cspool-outbox | cspool-append ~/spool'
expect "its changes prove the fork to the others" 76 '' \
	'cspool-apply: the device that wrote record 12 has seen another log up to record 10' \
	on laptop pipe 'cspool-fetch | cspool-apply'

# A stream that pauses: what came is there, and others may write meanwhile.
cspool-mkspool "$HOME/second"
mkdir -m 700 "$HOME/tablet"
cp "$HOME/laptop/key" "$HOME/tablet"
echo "$HOME/second" >"$HOME/tablet/spool"
cp "$HOME/laptop/key.pub" "$HOME/tablet/recipient"
for number in 1 2; do echo $number | on tablet pipe 'cspool-seal | cspool-append'; done
cspool-fetch --after=0 "$HOME/second" >stream
mkfifo slow
on tablet cspool-apply <slow &
exec 3>slow
head -c $(($(wc -c <stream) - 48)) stream >&3
has_messages() { [ "$(on tablet count_messages)" -eq "$1" ]; }
ok "what came before a pause is there" await has_messages 2
on tablet imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Seen)' >out
ok "and nobody is held up" grep -q '^b OK' out

# Another apply goes further meanwhile; that is no contradiction.
echo 3 | on tablet pipe 'cspool-seal | cspool-append'
on tablet pipe 'cspool-fetch | cspool-apply'
tail -c 48 stream >&3
exec 3>&-
wait $!
is $? 0 "overtaken by another it ends well"
ok "with all messages" has_messages 3
expect "but a stream kept from before looks like a rollback" 76 '' '*the log ends at record 2, but record 3 has been seen' \
	on tablet pipe 'cspool-apply <stream'

done_testing
