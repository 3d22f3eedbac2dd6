#!/bin/sh
# cspool-fsck on a spool with mail in it, and what the machines make of it; test_fsck.py has the damage at random.
. "$(dirname "$0")/tap.sh"
make_homes
spool=$HOME/spool
for subject in one two three four; do printf 'Subject: %s\n\n1\n' $subject | deliver; done
on laptop cspool-sync --quiet

expect "a sound spool" 0 "$spool: sound, 5 records in 1 segments" '' cspool-fsck "$spool"
expect "for cron" 0 '' '' cspool-fsck --quiet "$spool"
expect "repair of what is sound" 0 "$spool: sound, *" '' cspool-fsck --repair "$spool"
expect "no directory" 66 '' 'cspool-fsck: none: no such directory' cspool-fsck none
mkdir empty
ln -s . again
expect "one directory by two names" 0 "., again: all of 400 appends are there, and were seen at once" '' cspool-fsck --shared . again
expect "two directories" 65 '' 'cspool-fsck: empty: what is made in . is not seen here: not the same directory' \
	cspool-fsck --shared . empty
expect "one that is missing" 66 '' 'cspool-fsck: none: no such directory' cspool-fsck --shared . none
is "$(echo cspool-shared.*)" "cspool-shared.*" "nothing is left of the trial"
expect "no spool" 65 '' 'cspool-fsck: empty: no spool here, *' cspool-fsck empty
expect "nor for repair" 65 '' 'cspool-fsck: empty: no spool here, *' cspool-fsck --repair empty

chmod o+w "$spool/head"
ln -s head "$spool/segments.99"
expect "rights" 65 "*$spool: head: others may write to it*" '' cspool-fsck "$spool"
chmod o-w "$spool/head"
expect "and links" 65 "$spool: segments.99: not a plain file" '' cspool-fsck "$spool"
rm "$spool/segments.99"

# A bad sector in the third record, which the desktop has not yet read.
log=$spool/00000000000000000001.0.log
cp -R "$spool" good
python3 -c "
import mmap, sys
with open('$log', 'r+b') as file, mmap.mmap(file.fileno(), 0) as octets:
    octets[len(octets) // 6 * 3 + 600] ^= 1"
expect "damage" 65 "$spool: record 3: damaged or missing
$spool: 00000000000000000001.0.log: damaged" '' cspool-fsck "$spool"
expect "without repair, a machine stops before it" 65 '' 'cspool-apply: standard input: frame *: damaged*' \
	on desktop pipe 'cspool-fetch | cspool-apply'
printf 'Subject: five\n\n1\n' | deliver
expect "repair" 0 "$spool: 00000000000000000001.0.log is damaged, and kept
$spool: repaired, lost: record 3
$spool: sound, 5 records in 2 segments" '' cspool-fsck --repair "$spool"
expect "a machine that has not read it is told" 65 '' 'cspool-apply: record 3 lost by the spool before it could be read' \
	on desktop pipe 'cspool-fetch | cspool-apply'
expect "once" 0 '' '' on desktop pipe 'cspool-fetch | cspool-apply'
is "$(on desktop count_messages)" 4 "and has the rest"
expect "cspool-status goes on saying it" 0 '*lost * record 3, *ago*' '' on desktop cspool-status
expect "one that has read it goes on" 0 '' '' on laptop cspool-sync
is "$(on laptop count_messages)" 5 "with all mail"
on desktop imap 'a SELECT INBOX' 'b STORE 1:* +FLAGS (\Seen)' >/dev/null
on desktop cspool-sync
on laptop cspool-sync
is "$(on laptop imap 'a STATUS INBOX (UNSEEN)' | sed -n 's/.*UNSEEN \([0-9]*\).*/\1/p')" 1 "changes go on between them"
expect "a new machine" 65 '' 'cspool-apply: record 3 lost by the spool before it could be read' \
	on laptop pipe 'cspool-fetch --after=0 | cspool-apply --db=new.db'

rm -R "$spool"
cp -R good "$spool"
rm "$spool/head"
expect "without head nothing can be appended" 75 '' '*no spool here*' on mailhost pipe 'echo x | cspool-seal | cspool-append'
expect "it is made again" 0 "$spool: repaired, nothing is lost*" '' cspool-fsck --repair "$spool"
ok "and speaks of all" cspool-fetch --after=5 "$spool"
expect "a damaged one too" 0 '*repaired, nothing is lost*' '' pipe "echo x >$spool/head; cspool-fsck --repair $spool"

done_testing
