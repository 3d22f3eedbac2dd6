#!/bin/sh
# cspool-sync --exec: a command when mail has come, once and while following.
. "$(dirname "$0")/tap.sh"
need jq
make_homes
printf 'Subject: before\n\n1\n' | deliver
rm "$HOME/laptop/mail.db"*
on laptop cspool-sync --exec='touch ran'
ok "what the first sync brings is not new" test ! -e ran
expect "nor is nothing" 0 '' '' on laptop cspool-sync --exec='touch ran'
ok "so nothing is run" test ! -e ran

printf 'Subject: one\n\n1\n' | deliver
printf 'Subject: two\n\n1\n' | deliver
printf 'Subject: three\n\n1\n' | on mailhost pipe 'cspool-seal --mailbox=Lists | cspool-append'
expect "a line for each mailbox" 0 '{"mailbox": "INBOX", "new": 2, "unseen": 3, "messages": 3}
{"mailbox": "Lists", "new": 1, "unseen": 1, "messages": 1}' '' on laptop cspool-sync --exec=cat
expect "once" 0 '' '' on laptop cspool-sync --exec=cat
printf 'Subject: four\n\n1\n' | deliver
expect "a command that fails is said, and the sync has been well" 0 '' 'cspool-sync: --exec: the command ended with status 3' \
	on laptop cspool-sync --exec='exit 3'

printf 'Subject: killed\n\n1\n' | deliver
expect "so is one that is killed" 0 '' 'cspool-sync: --exec: the command ended with signal 9' \
	on laptop cspool-sync --exec='kill -9 $$'

# What is done elsewhere is no news: seen, moved, sent.
on desktop cspool-sync
on desktop imap 'a SELECT INBOX' 'b MOVE 1 Archive' 'c APPEND Sent (\Seen) {14+}
Subject: sent
' >/dev/null
on desktop cspool-sync
expect "what the user does elsewhere is no new mail" 0 '' '' on laptop cspool-sync --exec=cat
is "$(on laptop imap 'a STATUS Sent (MESSAGES)' | grep -c 'MESSAGES 1')" 1 "it has come, though"

# While following, one at a time: what comes meanwhile is for the next.
page cspool-sync.1 EXAMPLES 1 >follow
mkdir bin
printf '#!/bin/sh\necho "$2" >>%s/notified\n' "$PWD" >bin/notify-send
chmod +x bin/notify-send
touch notified
CSPOOL_HOME=$HOME/laptop PATH=$PWD/bin:$PATH sh follow 2>follow.err &
follow=$!
# follows: it has begun to look once there is a process that fetches.
follows() { pgrep -P "$(pgrep -P "$follow")" -f cspool-fetch; }
await follows
printf 'Subject: five\n\n1\n' | deliver
ok "the example notifies" await grep -q '^1 new in INBOX$' notified
printf 'Subject: six\n\n1\n' | on mailhost pipe 'cspool-seal --mailbox=Lists | cspool-append'
ok "for each mailbox" await grep -q '^1 new in Lists$' notified
pkill -TERM -P "$follow"
wait $follow
is "$(cat follow.err)" "" "and says nothing else"
done_testing
