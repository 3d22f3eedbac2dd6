# Machines of their own, for tests that only root can run; they source it first. Each has a network interface, /etc,
# /usr, /var, /run and /home for itself, and nothing of cspool. Changes are gone afterwards.

# shellcheck shell=sh disable=SC2154 # top is that of tap.sh, which this sources
if [ -z "${CSPOOL_OWN:-}" ]; then
	if [ "$(id -u)" -eq 0 ] && unshare --mount --net --pid --fork --mount-proc true 2>/dev/null; then
		CSPOOL_OWN=yes exec unshare --mount --net --pid --fork --mount-proc --kill-child sh "$0"
	fi
	. "$(dirname "$0")/tap.sh"
	skip_all "only root can have machines of its own"
fi
. "$(dirname "$0")/tap.sh"
need ip nsenter setpriv make ssh
/usr/bin/python3 -c 'import nacl, docopt, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
	skip_all "the distribution's python3-nacl and python3-docopt are not installed"
chmod 755 "$scratch"
ip link set lo up
ip link add name bridge9 type bridge || skip_all "there can be no network here"
ip link set bridge9 up
machines=0

cat >"$scratch/machine" <<'END'
set -e
mount -t tmpfs none /mnt
for directory in etc usr var; do
	mkdir -p "/mnt/$directory" "/mnt/work/$directory"
	mount -t overlay overlay -o "lowerdir=/$directory,upperdir=/mnt/$directory,workdir=/mnt/work/$directory" "/$directory"
done
for directory in run home root; do mount -t tmpfs none "/$directory"; done
echo "$1" >/etc/hostname
hostname "$1"
mkdir -p /run/sshd
touch "$2"
exec sleep 100000
END

# machine NAME: start a machine, which the others reach by this name, with the account alice.
machine() {
	machines=$((machines + 1))
	unshare --mount --net --uts sh "$scratch/machine" "$1" "$scratch/$1.ready" 2>"$scratch/$1.log" &
	echo $! >"$scratch/$1.pid"
	pids="$pids $!"
	await test -e "$scratch/$1.ready" || skip_all "a machine does not start here: $(cat "$scratch/$1.log")"
	ip link add name "veth$machines" type veth peer name eth0 netns "$(cat "$scratch/$1.pid")"
	ip link set "veth$machines" master bridge9 up
	echo "10.9.0.$machines $1 $1.example.org" >>"$scratch/hosts"
	root "$1" "ip address add 10.9.0.$machines/24 dev eth0 && ip link set eth0 up && ip link set lo up
		echo alice:x:10001:10001::/home/alice:/bin/sh >>/etc/passwd
		echo alice:x:10001: >>/etc/group
		install -d -m 700 -o 10001 -g 10001 /home/alice"
}

# know_each_other: write the names of all machines into their /etc/hosts.
know_each_other() {
	for name in "$@"; do root "$name" "{ echo 127.0.0.1 localhost; cat $scratch/hosts; } >/etc/hosts"; done
}

# root MACHINE SCRIPT: run a script there as root, in the source tree.
root() {
	nsenter -t "$(cat "$scratch/$1.pid")" -m -n -u -- env -i HOME=/root USER=root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		PYTHONDONTWRITEBYTECODE=1 sh -c "cd $top && $2"
}

# alice MACHINE SCRIPT: run a script there as alice after a login: PATH is that of an ordinary account.
alice() {
	nsenter -t "$(cat "$scratch/$1.pid")" -m -n -u -- setpriv --reuid=10001 --regid=10001 --clear-groups \
		env -i HOME=/home/alice USER=alice PATH=/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 sh -c "cd && $2"
}

# start_sshd MACHINE: an ordinary sshd on port 22.
start_sshd() {
	root "$1" "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/hostkey
		/usr/sbin/sshd -D -e -h /etc/ssh/hostkey -f /dev/null -o UsePAM=no -o PidFile=none" 2>"$scratch/$1.sshd" &
}

# start_postfix MACHINE: Postfix as Debian sets it up for an internet site.
start_postfix() {
	root "$1" "mkdir -p /etc/postfix /var/spool/postfix /var/lib/postfix && chown postfix /var/lib/postfix
		sed -E 's/^([a-z][^ ]* +[^ ]+ +[^ ]+ +[^ ]+ +)y/\1n/' /usr/share/postfix/master.cf.dist >/etc/postfix/master.cf
		cat >/etc/postfix/main.cf <<-END
			compatibility_level = 3.6
			maillog_file = /var/log/mail.log
			inet_protocols = ipv4
			myhostname = $1.example.org
			mydestination = example.org, $1.example.org, $1, localhost
			alias_maps =
		END
		postfix set-permissions; postfix start" >"$scratch/$1.postfix" 2>&1
	await root "$1" "python3 -c \"import smtplib; smtplib.SMTP('127.0.0.1', 25).quit()\""
}

# stop_postfix MACHINE
stop_postfix() { root "$1" "postfix stop" >>"$scratch/$1.postfix" 2>&1; }
