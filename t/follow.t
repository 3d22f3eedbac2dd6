#!/bin/sh
. "$(dirname "$0")/tap.sh"
. "$here/sshd.sh"
. "$here/nginx.sh"
start_sshd
mkdir "$HOME/www"
start_nginx <<EOF
server {
	listen 127.0.0.1:$web_port;
	root $HOME/www;
}
EOF
make_homes
mv "$HOME/spool" "$HOME/www/alice"
echo "$HOME/www/alice" >"$HOME/mailhost/spool"
echo "$HOME/www/alice" >"$HOME/laptop/append"
has_messages() { [ "$(on laptop count_messages)" -eq "$1" ]; }

messages=0
for spool in "$HOME/www/alice" "spoolhost:$HOME/www/alice" "$url/alice"; do
	echo "$spool" >"$HOME/laptop/spool"
	mkfifo stream
	on laptop cspool-apply <stream &
	apply=$!
	CSPOOL_HOME=$HOME/laptop cspool-fetch --follow >stream 2>err &
	fetch=$!
	pids="$pids $fetch"
	for _ in 1 2; do
		messages=$((messages + 1))
		printf 'Subject: %s\n\n1\n' $messages | deliver
		ok "${spool%%:*}: message $messages comes" await has_messages $messages
	done
	kill $fetch
	wait $fetch
	wait $apply 2>apply.err
	is $? 75 "${spool%%:*}: apply is told of the end"
	rm stream
done

# What no later try can mend ends cspool-sync too, and is not taken for trouble with ssh.
cp -R "$HOME/www/alice" "$HOME/before"
printf 'Subject: last\n\n1\n' | deliver
echo "$HOME/www/alice" >"$HOME/laptop/spool"
on laptop cspool-sync
echo "spoolhost:$HOME/before" >"$HOME/laptop/spool"
expect "a spool that was rolled back" 76 '' 'cspool-apply: the log ends at record *' on laptop timeout 60 cspool-sync --follow

# Whoever follows, and whose reader has gone, does not stay.
for spool in "$HOME/www/alice" "spoolhost:$HOME/www/alice" "$url/alice"; do
	expect "${spool%%:*}: no reader, no follower" 75 '' '*' pipe \
		"{ cspool-fetch --after=0 --follow '$spool'; echo \$? >&3; } 3>status | head -c 10 >/dev/null; exit \$(cat status)"
done
# A cspool-sync that is killed leaves no tools behind.
for spool in "$HOME/www/alice" "spoolhost:$HOME/www/alice" "$url/alice"; do
	echo "$spool" >"$HOME/laptop/spool"
	rm -f "$HOME/laptop/mail.db"*
	CSPOOL_HOME=$HOME/laptop cspool-sync --follow 2>/dev/null &
	sync=$!
	pids="$pids $sync"
	await has_messages $((messages + 1))
	children=$(pgrep -P $sync | tr '\n' ' ')
	kill -9 $sync
	wait $sync 2>/dev/null
	none_left() { for child in $children; do ! kill -0 "$child" 2>/dev/null || return 1; done; }
	ok "${spool%%:*}: killed, it has had children" test -n "$children"
	ok "${spool%%:*}: and leaves none" await none_left
done
no_follower() { ! pgrep -f "cspool-fetch --after=0 --follow $HOME/www/alice"; }
ok "at the far end neither" await no_follower

done_testing
