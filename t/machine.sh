# A private machine for mail servers and the like, for tests that only root can run; they source it first. cspool is
# installed under /usr/local with the system's Python, as by a distribution. The account of alice is set up as the README
# says: as spool host, as mail host, and in ~/laptop as her own machine.

# shellcheck shell=sh disable=SC2154 # scratch and top are those of tap.sh
. "$(dirname "$0")/own.sh"
need ip man
ip link set lo up
chmod 755 "$scratch"
make -s -C "$top" install PREFIX=/usr/local PYTHON=/usr/bin/python3
PATH=$PATH:/usr/sbin
for user in alice:10001 cspool:10002; do
	name=${user%:*} id=${user#*:}
	echo "$name:x:$id:$id::$scratch/$name:/bin/sh" >>/etc/passwd
	echo "$name:x:$id:" >>/etc/group
	install -d -o "$id" -g "$id" "$name"
done

# as USER COMMANDS: run commands in a shell of that user, as after login.
as() {
	setpriv --reuid="$1" --regid="$1" --clear-groups env -i HOME="$scratch/$1" USER="$1" \
		PATH=/usr/local/bin:/usr/bin:/bin sh -c "cd && $2"
}

# start_spoolhost: start sshd on port 22, for alice.
start_spoolhost() {
	[ -e "$scratch/hostkey" ] || ssh-keygen -q -t ed25519 -N '' -f "$scratch/hostkey"
	mkdir -p /run/sshd
	/usr/sbin/sshd -D -e -h "$scratch/hostkey" -f /dev/null -o UsePAM=no -o PidFile=none -o ListenAddress=127.0.0.1 \
		2>"$scratch/sshd.log" &
	spoolhost=$!
	await as alice 'cspool-fetch --after=0 spool: >/dev/null'
}

stop_spoolhost() {
	kill "$spoolhost"
	wait "$spoolhost"
}

as alice 'mkdir -m 700 .ssh laptop && ssh-keygen -q -t ed25519 -N "" -f .ssh/id_ed25519 && cp .ssh/id_ed25519.pub .
printf "Host spool\nHostName 127.0.0.1\nStrictHostKeyChecking accept-new\nLogLevel ERROR\n" >.ssh/config'
as alice "set -e; $(readme 'A spool host of its own')"
start_spoolhost
as alice "export CSPOOL_HOME=laptop; $(readme 'A spool host of its own' 2)" >setup.log 2>&1 || cat setup.log
as alice "set -e; cp laptop/key.pub alice.pub; $(readme 'The mail host, by hand')
cp .cspool/key.pub mailhost.pub; export CSPOOL_HOME=laptop; $(readme 'The mail host, by hand' 2)"

# make_bob: set up bob, who has no account. The user cspool delivers to him with the script in the examples, and owns
# his spool.
make_bob() {
	install -D -m 755 "/usr/local/share/doc/cspool/examples/deliver" /etc/cspool/deliver
	install -d -o cspool -g cspool /etc/cspool/bob /var/spool/cspool
	as cspool 'mkdir -m 700 laptop && cspool-keygen laptop/key
	cd /etc/cspool/bob && cspool-keygen key && cp ~/laptop/key.pub recipient
	cspool-mkspool /var/spool/cspool/bob && echo /var/spool/cspool/bob | tee spool >~/laptop/spool
	export CSPOOL_HOME=~/laptop && cspool-sync && cspool-trust key.pub && cspool-sync'
}

# subjects USER [MAILBOX]: print the subjects of the messages on the laptop of alice, or, for cspool, on that of bob.
subjects() {
	as "$1" "export CSPOOL_HOME=laptop && cspool-sync; printf '%s\r\n' 'a EXAMINE \"${2:-INBOX}\"' \
		'b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]' 'c LOGOUT' | cspool-imapd --preauth" |
		tr -d '\r' | sed -n 's/^Subject: //p' | tr '\n' ' ' | sed 's/ $//'
}

# has USER SUBJECT [MAILBOX]: succeed if a message with this word in its subject has arrived.
has() { subjects "$1" "${3:-INBOX}" | grep -qw "$2"; }
