#!/bin/sh
. "$(dirname "$0")/tap.sh"
make_homes
corpus=${CSPOOL_CORPUS:-$top/t/mail}
flagged() { # HOME NUMBER: the message is flagged there
	on "$1" imap 'a SELECT INBOX' "b FETCH $2 FLAGS" | grep -q "^\* $2 FETCH (FLAGS (.*Flagged"
}
has_messages() { [ "$(on "$1" count_messages)" -eq "$2" ]; }
flag() { on "$1" imap 'a SELECT INBOX' "b STORE $2 +FLAGS (\\Flagged)" >/dev/null; }

# Once
printf 'Subject: one\n\n1\n' | deliver
expect "fetches and applies" 0 '' '' on laptop cspool-sync
ok "what is new" has_messages laptop 1
flag laptop 1
expect "sends what was changed" 0 '' '' on laptop cspool-sync
is "$(on laptop python3 -c "
import sqlite3, os
print(sqlite3.connect(os.environ['CSPOOL_HOME'] + '/mail.db').execute('SELECT count(*) FROM outbox').fetchone()[0])")" \
	0 "and sees that it has arrived"
expect "on the other machine" 0 '' '' on desktop cspool-sync
ok "it is seen" flagged desktop 1
mkdir -m 700 "$HOME/new"
cp "$HOME/laptop/key" "$HOME/laptop/spool" "$HOME/new"
on new cspool-trust "$HOME/mailhost/key.pub"
expect "a new machine that has changed something already" 0 '' '' on new cspool-sync
is "$(on new cspool-status --offline | sed -n 's/^outbox *//p')" "" "sends it at once"

# What goes wrong is said in one line.
expect "no home" 66 '' 'cspool-sync: */none/*: no such file or directory' on none cspool-sync
echo nowhere.invalid:spool >"$HOME/laptop/spool"
on laptop imap 'a CREATE Work' >/dev/null
expect "the network is away" 75 '' 'cspool-*: nowhere.invalid: no such host, or no network' on laptop cspool-sync
is "$(wc -l <err)" 1 "in one line"
expect "quietly" 75 '' '' on laptop cspool-sync --quiet
expect "but not for ever" 75 '' 'cspool-*: nowhere.invalid: no such host, or no network' on laptop cspool-sync --quiet --patient=0
touch -d '2 days ago' "$HOME/laptop/sync.lock"
on laptop python3 -c "
import sqlite3, os, time
with sqlite3.connect(os.environ['CSPOOL_HOME'] + '/mail.db') as db:
    db.execute('UPDATE cursor SET synced = ?', (int(time.time()) - 90000,))"
expect "after a day it is said" 75 '' 'cspool-*: nowhere.invalid: no such host, or no network' on laptop cspool-sync --quiet
expect "once" 75 '' '' on laptop cspool-sync --quiet
echo "$HOME/spool" >"$HOME/laptop/spool"
expect "hours that are none" 64 '' 'cspool-sync: --patient=x: not a number' on laptop cspool-sync --patient=x
cp -R "$HOME/spool" "$HOME/before"
printf 'Subject: two\n\n1\n' | deliver
on laptop cspool-sync
echo "$HOME/before" >"$HOME/laptop/spool"
expect "a spool that was rolled back" 76 '' 'cspool-apply: the log ends at record *' on laptop cspool-sync --quiet
echo "$HOME/spool" >"$HOME/laptop/spool"
cspool-keygen --comment=mallory stranger
printf 'Subject: x\n\n1\n' | cspool-seal --from=stranger --to="$HOME/laptop/key.pub" | cspool-append "$HOME/spool"
expect "mail of a stranger" 65 '' 'cspool-apply: record * is set aside: *' on laptop cspool-sync --quiet

# Follow
CSPOOL_HOME=$HOME/laptop cspool-sync --follow 2>follow.err &
laptop=$!
CSPOOL_HOME=$HOME/desktop cspool-sync --follow 2>/dev/null &
desktop=$!
pids="$pids $laptop $desktop"
ok "cspool-sync --follow runs" await pgrep -P $laptop
expect "another cspool-sync in this home" 75 '' 'cspool-sync: *sync.lock: another cspool-sync is running here' \
	on laptop cspool-sync
printf 'Subject: three\n\n1\n' | deliver
ok "mail comes by itself" await has_messages laptop 3
flag laptop 3
ok "and a change goes by itself" await flagged desktop 3

# An IDLE client hears of new mail.
cat >idle.py <<'EOF'
import os, subprocess, sys
server = subprocess.Popen(["cspool-imapd", "--preauth"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
server.stdin.write(b"a SELECT INBOX\r\nb IDLE\r\n")
server.stdin.flush()
while not server.stdout.readline().startswith(b"+"):
    pass
open("idles", "w").close()
line = server.stdout.readline()
server.stdin.write(b"DONE\r\nc LOGOUT\r\n")
server.stdin.close()
sys.exit(not line.endswith(b" EXISTS\r\n"))
EOF
on laptop python3 idle.py &
idle=$!
await test -e idles
printf 'Subject: four\n\n1\n' | deliver
wait $idle
is $? 0 "an IDLE client is told of new mail"
ok "and the other machine has it too" await has_messages desktop 4

# An append that hangs does not hold up what comes.
kill $desktop
wait $desktop
mkdir hanging
printf '#!/bin/sh\ntouch %s/hangs\nexec sleep 100\n' "$scratch" >hanging/ssh
chmod +x hanging/ssh
echo "nowhere:$HOME/spool" >"$HOME/desktop/append"
CSPOOL_HOME=$HOME/desktop PATH=$scratch/hanging:$PATH cspool-sync --follow &
desktop=$!
pids="$pids $desktop"
flag desktop 4
ok "a change waits where the append hangs" await test -e hangs
printf 'Subject: five\n\n1\n' | deliver
ok "and mail comes all the same" await has_messages desktop 5
kill $desktop
wait $desktop
rm "$HOME/desktop/append"
CSPOOL_HOME=$HOME/desktop cspool-sync --follow &
desktop=$!
pids="$pids $desktop"

# Killed at random moments, again and again, while both machines change things and mail comes.
kill $laptop
wait $laptop
is "$?" 0 "ends well when it is told to"
total=5
for file in "$corpus"/* "$corpus"/*/*; do
	[ -f "$file" ] || continue
	total=$((total + 1))
	[ $total -le 25 ] || break
	CSPOOL_HOME=$HOME/mailhost sh -c 'cspool-seal | cspool-append' <"$file"
	CSPOOL_HOME=$HOME/laptop cspool-sync 2>/dev/null &
	killed=$!
	flag laptop $((total % 4 + 1))
	flag desktop $(((total + 1) % 4 + 1))
	python3 -c "import random, time; time.sleep(random.Random($total).uniform(0, 0.4))"
	kill -9 $killed 2>/dev/null
	wait $killed 2>/dev/null
done
kill $desktop
wait $desktop
for home in laptop desktop laptop desktop; do on $home cspool-sync 2>/dev/null; done
state() {
	on "$1" python3 -c "
import os, sqlite3
db = sqlite3.connect(os.environ['CSPOOL_HOME'] + '/mail.db')
print(db.execute('SELECT count(*) FROM outbox').fetchone())
for row in db.execute('SELECT hex(message.id), flags, name FROM message JOIN mailbox ON mailbox.key = mailbox ORDER BY 1'):
    print(row)"
}
state laptop >one
state desktop >two
ok "both have the same in the end" cmp one two
is "$(head -n 1 one)" "(0,)" "and nothing is left to send"
ok "no mail is missing" test "$(wc -l <one)" -gt 20 -o -z "${CSPOOL_CORPUS:-}"

# A locked key is asked for once.
mkdir -m 700 "$HOME/locked"
CSPOOL_PASSPHRASE_COMMAND='echo secret' cspool-keygen --passphrase "$HOME/locked/key"
cspool-mkspool "$HOME/locked-spool"
echo "$HOME/locked-spool" >"$HOME/locked/spool"
on locked cspool-trust "$HOME/mailhost/key.pub"
expect "with the command that gives the passphrase" 0 '' '' \
	on locked env CSPOOL_PASSPHRASE_COMMAND='echo secret' cspool-sync
expect "without a terminal" 78 '' '*no terminal to ask on' on locked setsid -w cspool-sync
on locked imap 'a CREATE x' >/dev/null
echo secret >answers
expect "asked for once for all tools, on the terminal" 0 '' '' typed env CSPOOL_HOME="$HOME/locked" cspool-sync <answers
is "$(on locked cspool-status --offline | sed -n 's/^outbox *//p')" "" "all is sent and applied"

done_testing
