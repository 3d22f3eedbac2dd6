#!/bin/sh
# cspool-phone(7) as it is printed: certificates, passwords, the server, and a client elsewhere that checks all of it.
. "$(dirname "$0")/machine.sh"
need systemd-socket-activate systemd-analyze curl openssl
ip address add 192.0.2.1/32 dev lo
cp /etc/hosts hosts && echo 192.0.2.1 home.example.org >>hosts && cp hosts /etc/hosts
echo Subject: one | as alice 'cspool-seal | ssh spool cspool-append'
as alice 'mv .cspool mailhost && mv laptop .cspool && cspool-sync'

# section NAME: print a block of the page.
section() { page cspool-phone.7 "$@"; }
unit() { sed -n "s/^$2=//p" "/etc/systemd/system/$1"; }
mode() { stat -c '%U %a' "$1"; }
read_mail() { curl -sS --max-time 60 "$@" "imaps://home.example.org/INBOX;UID=1;SECTION=HEADER.FIELDS%20(SUBJECT)"; }

# systemd itself does not run here.
mkdir bin /etc/systemd/system 2>/dev/null
for name in systemctl loginctl; do printf '#!/bin/sh\necho "%s $*" >>%s/asked\n' $name "$scratch" >bin/$name; done
touch asked
chmod 666 asked
chmod 755 bin/*

expect "keep it up to date" 0 '' '' as alice "PATH=$scratch/bin:\$PATH; set -e; $(section 'Keep the machine up to date')"
expect "a certificate of one's own" 0 '*Fingerprint=*' '*' sh -ec "$(section 'Get a certificate' 2)"
is "$(mode /etc/cspool/imaps.pem)" "alice 600" "is for the server alone"
printf 'long-secret\n' >password
chmod 644 password
expect "a password for the phone" 0 '' '' as alice "$(section 'Choose a password for the phone') <$scratch/password"
expect "the server" 0 '' '' env PATH="$scratch/bin:$PATH" sh -ec "$(section 'Start the server')"
is "$(cat asked)" "systemctl --user enable --now cspool-sync.service
loginctl enable-linger
systemctl enable --now cspool-imaps.socket" "systemd is asked for both"
systemd-analyze verify /etc/systemd/system/cspool-* 2>&1 | grep cspool >complaints
is "$(cat complaints)" "" "and knows all that the units say"

# shellcheck disable=SC2046 # the words of a command
HOME=/root systemd-socket-activate --listen="$(unit cspool-imaps.socket ListenStream)" \
	setpriv --reuid="$(unit cspool-imaps.service User)" --regid=alice --clear-groups $(unit cspool-imaps.service ExecStart) \
	>server.log 2>&1 &
pids="$pids $!"
trust="--cacert /etc/cspool/imaps.crt"
# shellcheck disable=SC2086 # two words
ok "a client that trusts the certificate reads mail" await read_mail $trust --user alice:long-secret
# shellcheck disable=SC2046,SC2086
expect "the command to try it with" 0 '*INBOX*Archive*Drafts*Junk*Sent*Trash*' '' \
	$(section 'Start the server' 2 | sed 's/ alice / alice:long-secret /') -sS $trust
expect "a client that does not" 60 '' '*' read_mail --user alice:long-secret

# What certbot's hook makes takes the place of it, while the server runs.
section 'Get a certificate' >hook
live=/etc/letsencrypt/live/home.example.org
mkdir -p $live
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=home.example.org -addext subjectAltName=DNS:home.example.org \
	-keyout $live/privkey.pem -out $live/fullchain.pem 2>/dev/null
expect "certbot's hook" 0 '' '' sh hook
is "$(mode /etc/cspool/imaps.pem)" "alice 600" "its file is for the server alone"
expect "the renewed certificate is used at once" 0 'Subject: one*' '' \
	read_mail --cacert $live/fullchain.pem --user alice:long-secret

expect "the phone is lost" 0 '' '' as alice "$(section 'When the phone is lost')"
expect "its password is none any more" 67 '' '*' read_mail --cacert $live/fullchain.pem --user alice:long-secret
is "$(grep cspool-imapd: server.log)" "" "the server has nothing to say"

done_testing
