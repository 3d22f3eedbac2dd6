#!/bin/sh
. "$(dirname "$0")/tap.sh"
. "$here/sshd.sh"
start_sshd
make_homes
for home in laptop desktop mailhost; do echo "spoolhost:$HOME/spool" >"$HOME/$home/spool"; done

expect "seal | ssh spool append" 0 '' '' \
	on mailhost pipe 'printf "Subject: one\n\n1\n" | cspool-seal | ssh spoolhost cspool-append ~/spool || exit 75'
expect "append to host:path" 0 '' '' on mailhost pipe 'printf "Subject: two\n\n2\n" | cspool-seal | cspool-append'
expect "fetch from host:path" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 2 "both messages are there"
on laptop imap 'a SELECT INBOX' 'b STORE 2 +FLAGS (\Flagged)' >out
expect "outbox to host:path" 0 '' '' on laptop pipe 'cspool-outbox | cspool-append'
expect "to the other machine" 0 '' '' on desktop pipe 'cspool-fetch | cspool-apply'
on desktop imap 'a SELECT INBOX' 'b FETCH 2 (FLAGS)' >out
ok "the flag is there" grep -q '^\* 2 FETCH (FLAGS (.*\\Flagged' out

# Whatever goes wrong on the way is 75.
mail='echo mail | cspool-seal | cspool-append'
expect "no such host" 75 '' 'cspool-append: unknown.invalid: no such host, or no network' on mailhost pipe "$mail unknown.invalid:spool"
expect "no spool there" 75 '' 'cspool-append: none: no spool here *' on mailhost pipe "$mail spoolhost:none"

# other_ssh COMMAND: an ssh in front of PATH that does something else.
other_ssh() {
	mkdir -p other
	printf '#!/bin/sh\n%s\n' "$1" >other/ssh
	chmod +x other/ssh
}
other_ssh "exec $scratch/bin/ssh -oPubkeyAuthentication=no -oBatchMode=yes \"\$@\""
expect "a key that is refused" 75 '' 'cspool-append: spoolhost: it refuses the key: see authorized_keys there' \
	on mailhost pipe "PATH=$scratch/other:\$PATH; $mail"
other_ssh "exec $scratch/bin/ssh spoolhost PATH=/nowhere \"\$3\""
expect "no cspool there" 75 '' 'cspool-append: spoolhost: cspool-append is not installed there, or not in PATH' \
	on mailhost pipe "PATH=$scratch/other:\$PATH; $mail"
other_ssh 'kill -9 $$'
expect "ssh killed" 75 '' 'cspool-append: spoolhost: ssh ended with status -9' \
	on mailhost pipe "PATH=$scratch/other:\$PATH; $mail"
other_ssh "exec $scratch/bin/ssh -oUserKnownHostsFile=/dev/null -oStrictHostKeyChecking=yes \"\$@\""
expect "a host key that is not known" 75 '' \
	'cspool-append: spoolhost: its host key is not known, or has changed: `ssh` by hand shows which' \
	on mailhost pipe "PATH=$scratch/other:\$PATH; $mail"
other_ssh "exec $scratch/bin/ssh -p $(free_port) \"\$@\""
expect "no server there" 75 '' 'cspool-append: spoolhost: cannot be reached' \
	on mailhost pipe "PATH=$scratch/other:\$PATH; $mail"
other_ssh 'echo "the dog ate it" >&2; exit 255'
expect "something else" 75 '' 'cspool-append: spoolhost: ssh failed: the dog ate it' \
	on mailhost pipe "PATH=$scratch/other:\$PATH; $mail"
# Status 0 is no acknowledgement.
for answer in 'exit 0' 'echo Welcome; exit 0' 'cat >/dev/null' 'cat >/dev/null; echo cspool-appended 1 00' \
	"cat >/dev/null; echo 'cspool-appended 1 $(printf %064d 0)'"; do
	other_ssh "$answer"
	expect "a far end that says: $answer" 75 '' \
		'cspool-append: spoolhost: it has not said that the records are on its disk, *' \
		on mailhost pipe "PATH=$scratch/other:\$PATH; $mail"
done
other_ssh "echo Welcome; exec $scratch/bin/ssh \"\$@\""
expect "a notice before the acknowledgement" 0 '' '' on mailhost pipe "PATH=$scratch/other:\$PATH; echo noticed | cspool-seal | cspool-append"
expect "a notice before a stream" 65 '' "cspool-apply: standard input: text where a stream must begin: 'Welcome' (of a .bashrc or a motd?)" \
	on laptop pipe "PATH=$scratch/other:\$PATH; cspool-fetch | cspool-apply"
expect "the plain form" 0 '' '' on mailhost pipe \
	"echo plain | cspool-seal | ssh spoolhost cspool-append --ack $HOME/spool | grep -q '^cspool-appended 1 ' || exit 75"

# A host that takes the connection and says nothing. The user's own limits count before ours.
port_silent=$(free_port)
python3 -c "
import socket, time
server = socket.create_server(('127.0.0.1', $port_silent))
open('silent', 'w').close()
kept = [server.accept() for _ in range(2)]
time.sleep(600)" &
pids="$pids $!"
await test -e silent
cp ssh/config ssh/config.safe
printf 'Host silent\nHostName 127.0.0.1\nPort %s\nConnectTimeout 1\n' "$port_silent" >>ssh/config
expect "a silent host" 75 '' 'cspool-append: silent: cannot be reached' on mailhost pipe "$mail silent:spool"
mkdir few
printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v python3)" >few/python3
chmod +x few/python3
expect "no ssh here" 75 '' 'cspool-append: ssh: no such file or directory' \
	on mailhost pipe "echo mail | cspool-seal | PATH=$scratch/few python3 $top/bin/cspool-append"
echo '-oProxyCommand=id:spool' >"$HOME/mailhost/spool"
expect "a host that is an option" 64 '' 'cspool-append: -oProxyCommand=id:spool: no host *' on mailhost pipe "$mail"
echo "spoolhost:$HOME/spool" >"$HOME/mailhost/spool"

# The connection is cut at some octet: nothing of the message is in the spool, and a retry delivers it once.
head=$(cat "$HOME/spool/head")
printf 'Subject: cut\n\n3\n' >message
on mailhost cspool-seal <message >stream
cuts=0
for cut in 0 1 48 100 $(($(wc -c <stream) - 1)); do
	head -c "$cut" stream | on mailhost cspool-append 2>/dev/null
	[ $? -eq 75 ] && cuts=$((cuts + 1))
done
is "$cuts" 5 "a stream cut off is refused at the far end with 75"
is "$(cat "$HOME/spool/head")" "$head" "the spool is as it was"
for _ in 1 2; do on mailhost pipe 'cspool-seal <message | cspool-append'; done
on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 5 "tried again, and again, it is delivered once"
cat >bin/cut-off <<'EOF'
#!/bin/sh
ssh "$@" | head -c 3000
EOF
chmod +x bin/cut-off
expect "an answer cut off" 75 '' 'cspool-apply: standard input: cut off after frame *' \
	on laptop pipe "cut-off spoolhost cspool-fetch --after=0 ~/spool | cspool-apply"

# sshd is killed with all its sessions in the middle of something: nothing is lost, and all is delivered once.
{ printf 'Subject: large\n\n' && head -c 3000000 /dev/urandom | base64; } >large
well=0
for round in 1 2 3 4 5 6 7 8; do
	sed "1s/.*/Subject: crash $round/" large >message
	on mailhost pipe 'cspool-seal <message | cspool-append' 2>/dev/null &
	appending=$!
	on laptop cspool-sync 2>/dev/null &
	syncing=$!
	python3 -c "import time; time.sleep(0.1 + $round * 0.05)"
	crash_sshd
	for job in $appending $syncing; do
		wait "$job"
		case $? in 0 | 75) well=$((well + 1)) ;; esac
	done
	restart_sshd
	on mailhost pipe 'cspool-seal <message | cspool-append'
done
is "$well" 16 "killed in the middle: 0 or 75"
expect "and is back" 0 '' '' on laptop cspool-sync
is "$(on laptop imap 'a SELECT INBOX' 'b SEARCH SUBJECT crash' | sed -n 's/^\* SEARCH//p' | wc -w)" 8 "all delivered once"

done_testing
