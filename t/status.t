#!/bin/sh
. "$(dirname "$0")/tap.sh"
make_homes

expect "no database" 66 '' 'cspool-status: *mail.db: no message database *' on none cspool-status
expect "all is well, without a zero" 0 'spool      *
log        record 1
garbage    * kB of * kB
synced     * ago
mailboxes  empty
disk       * kB' '' on laptop cspool-status
printf 'Subject: one\n\n1\n' | deliver
on laptop imap 'a CREATE Work' >/dev/null
expect "behind, and with a change to send" 0 "*log        record 1, 1 behind*outbox     1 change, the oldest * old*" '' \
	on laptop cspool-status
on laptop cspool-sync
cspool-keygen --comment=mallory stranger
printf 'Subject: x\n\n1\n' | cspool-seal --from=stranger --to="$HOME/laptop/key.pub" | cspool-append "$HOME/spool"
on laptop cspool-sync 2>/dev/null
expect "mail of a stranger needs attention" 1 'attention  1 record of hosts that are not trusted: cspool-trust --list
spool *set aside  record 4: *' '' on laptop cspool-status
expect "for a script too" 1 '*' '' on laptop cspool-status --json
mv out json
expect "in JSON" 0 'INBOX 1 1 4 4 4' '' python3 -c "
import json
status = json.load(open('json'))
inbox = status['mailboxes'][0]
print(*inbox.values(), status['applied'], status['last'], status['aside'][0]['first'])"
on laptop cspool-trust stranger.pub
on laptop cspool-sync
expect "and no more when it is trusted" 0 '*INBOX: 2, 2 unseen*' '' on laptop cspool-status

# set_times SYNCED MADE: so many seconds ago.
set_times() {
	on laptop python3 -c "
import os, sqlite3, time
with sqlite3.connect(os.environ['CSPOOL_HOME'] + '/mail.db') as db:
    db.execute('UPDATE cursor SET synced = ?', (int(time.time()) - $1,))
    db.execute('UPDATE outbox SET queued = ?', (int(time.time()) - $2,))"
}
on laptop imap 'a CREATE More' >/dev/null
set_times 0 200000
expect "a change that has waited for days" 1 'attention  a change has waited in the outbox for 2 days: cspool-sync
*' '' on laptop cspool-status
on laptop cspool-sync
set_times 200000 0
expect "no sync for days" 1 'attention  there has been no good sync for 2 days: cspool-sync
*' '' on laptop cspool-status
set_times 0 0
echo nowhere.invalid:x >"$HOME/laptop/spool"
expect "a spool that cannot be asked" 0 'spool      nowhere.invalid:x
           nowhere.invalid: no such host, or no network
*' '' on laptop cspool-status
expect "is not asked offline" 0 'spool      nowhere.invalid:x
log *' '' on laptop cspool-status --offline

# Names that the locale cannot print.
printf 'Subject: x\n\n1\n' | on mailhost cspool-seal --mailbox='Ünïcöde/日本' | cspool-append "$HOME/spool"
echo "$HOME/spool" >"$HOME/laptop/spool"
on laptop cspool-sync
expect "in ASCII" 0 '*mailboxes*?n?c?de/??: 1, 1 unseen*' '' on laptop env PYTHONIOENCODING=ascii cspool-status
expect "JSON is UTF-8 everywhere" 0 '*Ünïcöde/日本*' '' on laptop env PYTHONIOENCODING=ascii cspool-status --json

# On a terminal: colours, and one screen however many mailboxes there are.
coloured() { TERM=xterm python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' "$@" </dev/null | grep -c "$(printf '\033')"; }
is "$(on laptop coloured cspool-status)" 0 "nothing is coloured when all is well"
set_times 200000 0
is "$(on laptop coloured cspool-status)" 1 "attention is"
is "$(on laptop coloured env NO_COLOR=1 cspool-status)" 0 "but not with NO_COLOR"
is "$(on laptop cspool-status | grep -c "$(printf '\033')")" 0 "nor in a pipe"
set_times 0 0
for name in a b c d e f g h i j k l; do printf 'Subject: x\n\n1\n' | on mailhost cspool-seal --mailbox=$name | cspool-append "$HOME/spool"; done
on laptop cspool-sync
expect "some mailboxes" 0 '*: 1, 1 unseen
           4 more mailboxes: 4
*' '' on laptop cspool-status
expect "--watch in a pipe" 64 '' 'cspool-status: --watch: only on a terminal*' on laptop cspool-status --watch
expect "--watch shows it again and again" 0 '*record*record*' '' on laptop python3 -c '
import os, pty, signal, sys
pid, terminal = pty.fork()
if not pid:
    os.execvp("cspool-status", ["cspool-status", "--watch"])
seen = b""
while seen.count(b"record") < 2:
    seen += os.read(terminal, 1000)
os.kill(pid, signal.SIGINT)
os.waitpid(pid, 0)
print(seen.decode())'

# A failure that no retry can mend is known at once, and until a sync succeeds.
echo "$HOME/spool" >"$HOME/laptop/spool"
mv "$HOME/laptop/key" "$HOME/laptop/away"
expect "no key" 66 '' 'cspool-sync: */key: no such file*' on laptop cspool-sync
expect "is remembered" 1 '*attention  the last sync has failed: cspool-sync: */key: no such file or directory (status 66): cspool doctor*' '' on laptop cspool-status
mv "$HOME/laptop/away" "$HOME/laptop/key"
echo nowhere.invalid:x >"$HOME/laptop/spool"
expect "a failure that may pass" 75 '' '*' on laptop cspool-sync
expect "changes nothing about it" 1 '*the last sync has failed: cspool-sync: */key: no such file*' '' on laptop cspool-status
echo "$HOME/spool" >"$HOME/laptop/spool"
expect "a good sync" 0 '' '' on laptop cspool-sync
expect "forgets it" 0 '*' '' on laptop cspool-status
cspool-mkspool "$HOME/other"
echo "$HOME/other" >"$HOME/laptop/spool"
expect "another spool" 1 '*attention  the spool contradicts what has been seen: *' '' on laptop cspool-status

done_testing
