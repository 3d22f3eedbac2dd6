# A machine of our own, in namespaces, for servers that use fixed ports and paths: sourced first, by tests that
# only root can run. In it cspool is installed under /usr with the system's Python, as a distribution would,
# and alice has an account, a home, and ssh to `spool`, which is the same machine.

# shellcheck shell=sh disable=SC2154 # scratch and top are those of tap.sh, which this sources
if [ -z "${CSPOOL_MACHINE:-}" ]; then
	if [ "$(id -u)" -eq 0 ] && unshare --mount --net --pid --fork --mount-proc true 2>/dev/null; then
		CSPOOL_MACHINE=yes exec unshare --mount --net --pid --fork --mount-proc --kill-child sh "$0"
	fi
	. "$(dirname "$0")/tap.sh"
	skip_all "only root can make a machine of its own"
fi
. "$(dirname "$0")/tap.sh"
need ip
/usr/bin/python3 -c 'import nacl, docopt, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
	skip_all "the distribution's python3-nacl and python3-docopt are not installed"

ip link set lo up
chmod 755 "$scratch"
cp /etc/passwd passwd
echo "alice:x:10001:10001::$scratch/alice:/bin/sh" >>passwd
make -s -C "$top" install DESTDIR="$scratch/installed" PREFIX=/usr PYTHON=/usr/bin/python3
for directory in bin lib; do
	mount -t overlay overlay -o "lowerdir=$scratch/installed/usr/$directory:/usr/$directory" "/usr/$directory" ||
		skip_all "nothing can be laid over /usr here"
done
mount --bind passwd /etc/passwd
mkdir -m 755 alice
chown 10001:10001 alice
cd / || exit 1

# as_alice COMMANDS: run them in a shell of hers, as after login.
as_alice() {
	setpriv --reuid=10001 --regid=10001 --clear-groups env -i HOME="$scratch/alice" USER=alice \
		PATH=/usr/bin:/bin sh -c "cd && $1"
}

# start_spoolhost: sshd on port 22, for alice.
start_spoolhost() {
	[ -e "$scratch/hostkey" ] || ssh-keygen -q -t ed25519 -N '' -f "$scratch/hostkey"
	mkdir -p /run/sshd
	/usr/sbin/sshd -D -e -h "$scratch/hostkey" -f /dev/null -o UsePAM=no -o PidFile=none -o ListenAddress=127.0.0.1 \
		2>"$scratch/sshd.log" &
	spoolhost=$!
	await as_alice 'ssh spool true'
}

stop_spoolhost() {
	kill "$spoolhost"
	wait "$spoolhost"
}

as_alice 'mkdir -m 700 .ssh .cspool laptop && ssh-keygen -q -t ed25519 -N "" -f .ssh/id_ed25519
cp .ssh/id_ed25519.pub .ssh/authorized_keys
printf "Host spool\nHostName 127.0.0.1\nStrictHostKeyChecking accept-new\nLogLevel ERROR\n" >.ssh/config
cspool-mkspool spool
cspool-keygen .cspool/key && CSPOOL_HOME=laptop cspool-keygen laptop/key && cp laptop/key.pub .cspool/recipient
echo ~/spool >laptop/spool && export CSPOOL_HOME=laptop && cspool-sync && cspool-trust .cspool/key.pub && cspool-sync'

# subjects [MAILBOX]: of the messages that have arrived on alice's machine, in order.
subjects() {
	as_alice "export CSPOOL_HOME=laptop && cspool-sync; printf '%s\r\n' 'a EXAMINE \"${1:-INBOX}\"' \
		'b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]' 'c LOGOUT' | cspool-imapd --preauth" |
		tr -d '\r' | sed -n 's/^Subject: //p' | tr '\n' ' ' | sed 's/ $//'
}
has_arrived() { subjects "${2:-INBOX}" | grep -qw "$1"; }
