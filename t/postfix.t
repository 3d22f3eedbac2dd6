#!/bin/sh
# A real Postfix: .forward, mailbox_command and pipe(8), as cspool(7) and man/examples have them.
. "$(dirname "$0")/machine.sh"
[ -x /usr/sbin/postfix ] || skip_all "postfix is not installed"

mkdir "$scratch/postfix" "$scratch/queue" "$scratch/data"
chown postfix "$scratch/data"
export MAIL_CONFIG="$scratch/postfix"
sed -E 's/^([a-z][^ ]* +[^ ]+ +[^ ]+ +[^ ]+ +)y/\1n/' /usr/share/postfix/master.cf.dist >"$MAIL_CONFIG/master.cf"
cat >"$MAIL_CONFIG/main.cf" <<EOF
compatibility_level = 3.6
queue_directory = $scratch/queue
data_directory = $scratch/data
maillog_file = $scratch/mail.log
maillog_file_prefixes = $scratch
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
myhostname = mail.example.org
mydestination = example.org
alias_maps =
local_recipient_maps =
recipient_delimiter = +
minimal_backoff_time = 1s
EOF
postfix set-permissions >/dev/null 2>&1
postfix start 2>/dev/null
answers() { python3 -c "import smtplib; smtplib.SMTP('127.0.0.1', 25).quit()"; }
await answers || skip_all "postfix does not start here: $(cat "$scratch/mail.log")"

# mail SUBJECT [RECIPIENT]: over SMTP.
mail() {
	python3 -c "
import smtplib, sys
smtplib.SMTP('127.0.0.1', 25).sendmail('bob@example.org', sys.argv[2],
    f'From: bob@example.org\r\nTo: alice@example.org\r\nSubject: {sys.argv[1]}\r\n\r\nhello\r\n')" "$1" "${2:-alice@example.org}"
}
empty() { postqueue -p | grep -q empty; }
deferred() { postqueue -p | grep -q "($1"; }
try_again() { postqueue -f && sleep 0.1 && "$@"; }

# .forward, as the README has made it, with the line of cspool(7)
ok "the line of cspool(7)" sh -c "man -P cat 7 cspool | sed -n 's/^  *\"/\"/p' | grep -xFf $scratch/alice/.forward"
mail one
ok "arrives by .forward" await has alice one
ok "and has left the queue" await empty

stop_spoolhost
mail away
ok "the spool host is away: the mail stays" await deferred 'temporary failure'
start_spoolhost
ok "and arrives later" await try_again has alice away

as alice 'mv .cspool/key .cspool/kept'
mail keyless
ok "no key: the mail stays" await deferred 'temporary failure'
ok "with the reason in the log" grep -q 'cspool-seal: .*/key: no such file or directory' "$scratch/mail.log"
as alice 'mv .cspool/kept .cspool/key'
ok "and arrives later" await try_again has alice keyless

as alice 'mv spool moved && mkdir spool'
mount -t tmpfs -o size=64k,uid=10001 none "$scratch/alice/spool"
as alice 'cp -a moved/. spool; cat /dev/zero >spool/filler 2>/dev/null'
mail full
ok "no space: the mail stays" await deferred 'temporary failure'
ok "with the reason in the log" grep -q 'no space left on device' "$scratch/mail.log"
as alice 'rm spool/filler'
ok "and arrives later" await try_again has alice full

chmod 000 "$scratch/alice/spool/head"
mail denied
ok "no permission: the mail stays" await deferred 'temporary failure'
ok "with the reason in the log" grep -q 'cspool-append: .*/spool/head: permission denied' "$scratch/mail.log"
expect "and for who would read it" 77 '' 'cspool-fetch: spool/head: permission denied' as alice 'cspool-fetch --after=0 spool'
chmod 644 "$scratch/alice/spool/head"
ok "and arrives later" await try_again has alice denied
as alice 'cp -a spool back'
umount "$scratch/alice/spool"
as alice 'rmdir spool && mv back spool'
is "$(subjects alice)" "one away keyless full denied" "each once"

# Plus addresses
as alice "echo '\"|/usr/local/bin/cspool-seal \${EXTENSION:+--mailbox=\$EXTENSION} | /usr/local/bin/cspool-append spool: || exit 75\"' >.forward"
mail plus alice+lists@example.org
ok "a plus address" await has alice plus lists
mail plain
ok "and one without" await has alice plain

# mailbox_command: for all users of the machine that have no .forward
as alice 'rm .forward'
as alice 'echo spool: >.cspool/spool'
page cspool-hosting.7 Delivery >>"$MAIL_CONFIG/main.cf"
postfix reload 2>/dev/null
mail command
ok "arrives by mailbox_command" await has alice command
mail again alice+lists@example.org
ok "for a plus address too" await has alice again lists
stop_spoolhost
mail later
ok "the spool host is away: the mail stays" await deferred 'temporary failure'
start_spoolhost
ok "and arrives later" await try_again has alice later

# Postfix is killed in the middle of something: nothing is lost, and all is delivered once.
as alice "$(readme 'The mail host, by hand' | grep forward)"
for round in 1 2 3 4 5 6; do
	mail "crash$round"
	python3 -c "import time; time.sleep($round * 0.06)"
	pkill -9 -x 'master|local|qmgr|pickup|cleanup|smtpd'
	rm -f "$scratch/queue/pid/master.pid"
	postfix start 2>/dev/null
	await answers
done
for round in 1 2 3 4 5 6; do await try_again has alice "crash$round"; done
ok "and leaves the queue" await empty
is "$(subjects alice | tr ' ' '\n' | grep crash | sort | tr '\n' ' ')" "crash1 crash2 crash3 crash4 crash5 crash6 " \
	"killed in the middle: each once"

# pipe(8), with the lines and the script of the examples: bob has no account.
make_bob
cat "/usr/local/share/doc/cspool/examples/master.cf" >>"$MAIL_CONFIG/master.cf"
echo 'bob@example.net bob' >users
postmap users
postconf -e 'virtual_mailbox_domains = example.net' "virtual_mailbox_maps = hash:$PWD/users" \
	"$(sed -n 's/^#\t\(virtual_transport.*\)/\1/p' "/usr/local/share/doc/cspool/examples/master.cf")" \
	"$(sed -n 's/^#\t\(cspool_dest.*\)/\1/p' "/usr/local/share/doc/cspool/examples/master.cf")"
postfix reload 2>/dev/null
mail piped bob@example.net
mail plus bob+lists@example.net
ok "arrives by pipe(8)" await has cspool piped
ok "for a plus address too" await has cspool plus lists
mv /etc/cspool/bob/key /etc/cspool/bob/kept
mail bobless bob@example.net
ok "no key: the mail stays" await deferred 'temporary failure'
mv /etc/cspool/bob/kept /etc/cspool/bob/key
ok "and arrives later" await try_again has cspool bobless
is "$(subjects cspool)" "piped bobless" "each once"

done_testing
