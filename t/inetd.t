#!/bin/sh
# A real inetd, xinetd, and the sockets of systemd, with the lines and units of the examples.
. "$(dirname "$0")/machine.sh"
need inetd xinetd systemd-socket-activate systemd-analyze curl openssl
examples=/usr/local/share/doc/cspool/examples
ip address add 192.0.2.1/32 dev lo
echo Subject: one | as alice 'cspool-seal | ssh spool cspool-append'
as alice 'mv .cspool mailhost && mv laptop .cspool && cspool-sync && echo secret | cspool-imapd --set-password'
as cspool 'mkdir spools && cspool-mkspool spools/alice && cspool-httpd --new-token=fetch spools alice' >token
ln -s "$scratch/cspool/spools" /var/spool/cspool

# serve COMMAND...: a server in the foreground, started with a HOME that is not alice's.
serve() {
	HOME=/root "$@" >>"$scratch/servers.log" 2>&1 &
	server=$!
}
stop() {
	kill $server
	wait $server 2>/dev/null
}
# read_mail PORT [ADDRESS [IMAP4_SSL]]: log in and read a subject, as a mail client does.
read_mail() {
	python3 -c "
import imaplib, sys
try:
    server = getattr(imaplib, sys.argv[3])(sys.argv[2], int(sys.argv[1]))
    server.login('alice', 'secret')
    server.select()
    print(server.fetch('1', 'BODY[HEADER.FIELDS (SUBJECT)]')[1][0][1].decode().strip())
    server.logout()
except imaplib.IMAP4.error as error:
    sys.exit(str(error))" "$1" "${2:-127.0.0.1}" "${3:-IMAP4}"
}
get_head() { curl -sf -o got -u "alice:$(cat token)" "http://127.0.0.1:$1/alice/head" && cmp got "$scratch/cspool/spools/alice/head"; }
turned_away='*\* BYE \[UNAVAILABLE\] without --tls only this machine is served: elsewhere passwords could be read on the way*'

serve inetd -i "$examples/inetd.conf"
ok "inetd: a client of IMAP" await read_mail 143
ok "inetd: cspool-httpd" await get_head 3999
stop
sed 's/^127.0.0.1://' "$examples/inetd.conf" >open.conf
serve inetd -i "$PWD/open.conf"
ok "inetd at all addresses: a client here" await read_mail 143
expect "one elsewhere is turned away" 1 '' "$turned_away" read_mail 143 192.0.2.1
stop
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=alice -keyout key.pem -out crt.pem 2>/dev/null
cat key.pem crt.pem >/etc/alice.pem
chown alice /etc/alice.pem
sed 's|cspool-imapd$|& --tls=/etc/alice.pem|; s/^imap/imaps/' open.conf >tls.conf
serve inetd -i "$PWD/tls.conf"
ok "but over TLS" await read_mail 993 192.0.2.1 IMAP4_SSL
stop

serve xinetd -dontfork -f "$examples/xinetd.conf" -pidfile "$PWD/xinetd.pid"
ok "xinetd: a client of IMAP" await read_mail 143
stop

# What a unit says.
unit() { sed -n "s/^$2=//p" "$examples/$1"; }
listen=$(unit cspool-imapd.socket ListenStream)
# shellcheck disable=SC2046 # the words of a command
serve setpriv --reuid=alice --regid=alice --clear-groups \
	systemd-socket-activate --listen="$listen" $(unit cspool-imapd.service ExecStart)
ok "systemd: a client of IMAP" await read_mail "${listen#*:}"
stop
listen=$(unit cspool-httpd.socket ListenStream)
# shellcheck disable=SC2046
serve setpriv --reuid="$(unit cspool-httpd.service User)" --regid=cspool --clear-groups \
	systemd-socket-activate --listen="$listen" $(unit cspool-httpd.service ExecStart)
ok "systemd: cspool-httpd" await get_head "${listen#*:}"
ok "and more than once" get_head "${listen#*:}"
stop
cp "$examples"/*.socket "$examples"/*.service .
systemd-analyze verify ./*.socket ./*.service 2>&1 | grep cspool >complaints
is "$(cat complaints)" "" "systemd knows all that the units say"

done_testing
