#!/bin/sh
# cspool-hosting(7), pasted: spools of many users on one host.
. "$(dirname "$0")/machine.sh"
need curl
hosting() { page cspool-hosting.7 "$@"; }

# Who owns what.
getent group www-data >/dev/null || echo www-data:x:33: >>/etc/group
mkdir -p /var/spool/cspool
hosting 'Who owns what' | sed 's/^# //' >own
expect "a spool for a web server" 0 '' '' sh -e own
is "$(stat -c '%U:%G %a' /var/spool/cspool/alice)" "cspool:www-data 2750" "belongs to cspool, and www-data reads it"

# Access: one account, a key for each right.
as alice 'ssh-keygen -q -t ed25519 -N "" -f .ssh/append; ssh-keygen -q -t ed25519 -N "" -f .ssh/all'
install -d -o cspool -g cspool -m 700 "$scratch/cspool/.ssh"
for number in 1 2; do
	name=$(echo "append all" | cut -d' ' -f$number)
	hosting Access | sed -n "${number}p" | sed "s|ssh-ed25519 \.\.\.|$(cat "$scratch/alice/.ssh/$name.pub")|"
done >"$scratch/cspool/.ssh/authorized_keys"
chown cspool: "$scratch/cspool/.ssh/authorized_keys"
for name in append all; do
	printf 'Host %s\nHostName 127.0.0.1\nUser cspool\nIdentitiesOnly yes\nIdentityFile ~/.ssh/%s\nStrictHostKeyChecking accept-new\nLogLevel ERROR\n' $name $name
done >>"$scratch/alice/.ssh/config"
expect "the key of a mail host appends" 0 '' '' as alice 'echo hello | cspool-seal | cspool-append append:'
expect "and no more" 77 '' '*this key is only for cspool-append' as alice 'cspool-fetch --after=0 append: >fetched'
expect "that of a machine fetches" 0 '' '' as alice 'cspool-fetch --after=0 all: >fetched'
is "$(stat -c %G /var/spool/cspool/alice/head)" www-data "and the web server still reads the head"

# Thousands.
mkdir -p /root/tokens
printf 'bob\ncarol\n' >users
hosting Thousands >loop
expect "many spools" 0 '' '' sh -e loop
is "$(cd /var/spool/cspool && echo *)" "alice bob carol tokens" "are made, with a file of tokens"
port=$(free_port)
cspool-httpd --listen=127.0.0.1:"$port" /var/spool/cspool 2>httpd.log &
pids="$pids $!"
ok "each with a token that works" await curl -sf -o got -u "carol:$(cat /root/tokens/carol)" "http://127.0.0.1:$port/carol/head"
ok "and for nobody else" sh -c "! curl -sf -o got -u 'carol:$(cat /root/tokens/bob)' http://127.0.0.1:$port/carol/head"

# Compaction.
line=$(sed -n 's/^\.Dl \(for s in .*\)/\1/p' "$top/man/cspool-hosting.7" | sed 's/\\(dq/"/g')
expect "dropped records are removed" 0 '' '' sh -e -c "$line"

stop_spoolhost
done_testing
