#!/bin/sh
# The road of the README, from nothing to the first mail: its blocks, pasted on a server and a laptop.
. "$(dirname "$0")/hosts.sh"
[ -x /usr/sbin/postfix ] || skip_all "postfix is not installed"
need neomutt

machine vps
machine laptop
know_each_other vps laptop
start_sshd vps
start_postfix vps
alice laptop 'mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N "" -f .ssh/id_ed25519
printf "Host *\nStrictHostKeyChecking accept-new\nLogLevel ERROR\n" >.ssh/config'
alice vps "mkdir -m 700 .ssh && cp /dev/null .ssh/authorized_keys"
alice laptop 'cat .ssh/id_ed25519.pub' | alice vps 'cat >.ssh/authorized_keys'
ok "ssh alice@vps.example.org works, as the README wants it" await alice laptop 'ssh alice@vps.example.org true'

# apt-get has been run before the tests; all else is what the README says.
pasted() { readme "$1" | sed '/^apt install/d'; }
blocks='First install|Then do the same|Then set up both'
commands=$(IFS='|' && for start in $blocks; do readme "$start"; done | grep -c .)
begun=$(date +%s)
ok "installing on the server" root vps "set -e; $(pasted 'First install')"
ok "installing on the laptop" root laptop "set -e; $(pasted 'Then do the same')"
setup=$(pasted 'Then set up both')
expect "setting up both" 0 '*The test message is here*' '' alice laptop "set -e; $setup"
seconds=$(($(date +%s) - begun))
cp out setup.log
ok "with six commands at most" test "$commands" -le 6
ok "in two minutes" test "$seconds" -lt 120
echo "# from nothing to the first mail: $commands commands, $seconds seconds"

# Each line for crontab works in the PATH of cron.
line=$(readme 'Then keep your machine up to date')
is "$(echo "$line" | cut -d' ' -f1-5)" '*/5 * * * *' "the line for crontab"
expect "runs as cron would run it" 0 '' '' alice laptop "env -i HOME=/home/alice PATH=/usr/bin:/bin ${line#??? ? ? ? ? }"
ok "cspool-setup prints the same line" grep -qF "$line" setup.log

# Mail from elsewhere, and neomutt with the lines of the README and nothing else.
root vps "python3 -c \"
import smtplib
smtplib.SMTP('127.0.0.1', 25).sendmail('bob@example.org', 'alice@example.org', 'Subject: from bob\r\n\r\nhello\r\n')\""
subjects() {
	alice laptop "cspool sync; printf '%s\r\n' 'a EXAMINE INBOX' 'b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]' 'c LOGOUT' |
		cspool-imapd --preauth" | tr -d '\r' | sed -n 's/^Subject: //p' | tr '\n' ','
}
has() { subjects | grep -q "$1"; }
ok "mail from elsewhere arrives" await has "from bob"
ok "and is not left in the clear" sh -c "! nsenter -t $(cat vps.pid) -m grep -rqs hello /var/mail /home/alice"
readme 'Then read your mail' >muttrc
ok "cspool-setup prints the same lines for mutt" sh -c "sed 's/^ *//' setup.log | grep -xFf - muttrc | diff - muttrc"
cp muttrc muttrc.test
cat >>muttrc.test <<'END'
set copy=no quit=yes
push "<tag-pattern>~A<enter><tag-prefix><pipe-message>cat >>read-by-mutt<enter><quit>"
END
alice laptop "cat >.muttrc" <muttrc.test
alice laptop "TERM=xterm timeout 60 script -qec 'neomutt -F .muttrc' /dev/null </dev/null >/dev/null 2>&1 || true"
ok "neomutt shows it with these lines alone" await alice laptop 'grep -q "Subject: from bob" read-by-mutt'

# Once more: nothing is done again, nothing that is there is shown.
expect "once more" 0 '*The test message is here*' '' alice laptop "set -e; $setup"
is "$(grep -c '^\$ ' out)" 3 "does only what has to be done: two syncs, and the test message"
expect "the test alone" 0 '*$ ssh alice@vps.example.org *sendmail*The test message is here*' '' alice laptop 'cspool-setup --test'
expect "the doctor finds nothing bad" 0 '*well  trust *' '' alice laptop 'cspool doctor'
ok "nor on the server" alice vps 'cspool doctor'

# What goes wrong.
alice vps 'cp .cspool/key.pub .cspool/recipient'
expect "a recipient that is the server's own key" 78 '' '*recipient there is the key of that host*' \
	alice laptop 'cspool-setup --mail-host=alice@vps.example.org'
expect "and cspool-seal refuses it" 78 '' '*recipient: the key of this host: *' alice vps 'echo x | cspool-seal | cat >/dev/null; echo x | cspool-seal >sealed'
alice vps 'cspool-keygen other && mv other.pub .cspool/recipient'
expect "another one's key" 78 '' '*another key than yours*' alice laptop 'cspool-setup --mail-host=alice@vps.example.org'
alice vps 'rm .cspool/recipient; echo "|elsewhere" >.forward'
expect "a .forward with other lines" 73 '*' '*.forward there has other lines: add "|/usr/local/bin/cspool-seal*' \
	alice laptop 'cspool-setup --mail-host=alice@vps.example.org'
is "$(alice vps 'cat .forward')" '|elsewhere' "is left alone"
expect "without one" 0 '*' '' alice laptop 'cspool-setup --mail-host=alice@vps.example.org --no-forward'
alice vps 'rm .forward; : >.cspool/recipient; printf "echo welcome; echo in case of need; echo there is help\n" >.profile-noise
	printf "#!/bin/sh\n. ~/.profile-noise; exec /bin/sh \"\$@\"\n" >noisy && chmod +x noisy'
root vps "sed -i 's|^alice:\\(.*\\):/bin/sh|alice:\\1:/home/alice/noisy|' /etc/passwd"
expect "a recipient that was left empty, and a login that prints lines" 0 '*Your public key*' '*of a .bashrc or a motd*' \
	alice laptop 'cspool-setup --mail-host=alice@vps.example.org --no-forward'
ok "the recipient is whole" sh -c "[ '$(alice laptop 'cat .cspool/key.pub')' = '$(alice vps 'cat .cspool/recipient')' ]"
root vps "sed -i 's|:/home/alice/noisy|:/bin/sh|' /etc/passwd"
expect "a host that is none" 75 '' 'cspool-setup: nowhere.invalid: *does ssh nowhere.invalid work by itself?' \
	alice laptop 'cspool-setup --mail-host=nowhere.invalid'
root vps 'mv /usr/local/bin/cspool-seal /usr/local/bin/away'
expect "a host without cspool" 75 '' '*cspool is not installed there*' alice laptop 'cspool-setup --mail-host=alice@vps.example.org'
expect "a name without its colon" 64 '' 'cspool-setup: vps.example.org: did you mean vps.example.org: *' \
	alice laptop 'CSPOOL_HOME=~/other cspool-setup vps.example.org'
expect "--mail-host with a path" 64 '' 'cspool-setup: --mail-host=vps:spool: not *' alice laptop 'cspool-setup --mail-host=vps:spool'

stop_postfix vps
done_testing
