# A real sshd on loopback, for this user, with a configuration of its own. Source
# it after tap.sh. After start_sshd, `ssh spoolhost` reaches it.

# shellcheck shell=sh disable=SC2154 # scratch and pids are those of tap.sh
need ssh ssh-keygen python3
sshd=$(command -v sshd || echo /usr/sbin/sshd)
[ -x "$sshd" ] || skip_all "sshd is not installed"
[ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd

restart_sshd() {
	"$sshd" -D -e -f "$scratch/ssh/sshd_config" 2>>sshd.log &
	sshd_pid=$!
	pids="$pids $sshd_pid"
	await python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))"
}

# crash_sshd: kill sshd and all processes that it has started, like a crash of its machine.
crash_sshd() {
	for pid in $(descendants "$sshd_pid"); do kill -9 "$pid" 2>/dev/null; done
	wait "$sshd_pid" 2>/dev/null
}
descendants() {
	for child in $(ps -o pid= --ppid "$1"); do descendants "$child"; done
	echo "$1"
}

start_sshd() {
	mkdir -p ssh bin
	ssh-keygen -q -t ed25519 -N '' -f ssh/hostkey
	ssh-keygen -q -t ed25519 -N '' -f ssh/id
	cp ssh/id.pub ssh/authorized_keys
	port=$(free_port)
	cat >ssh/sshd_config <<-EOF
		ListenAddress 127.0.0.1:$port
		HostKey $scratch/ssh/hostkey
		AuthorizedKeysFile $scratch/ssh/authorized_keys
		StrictModes no
		UsePAM no
		PidFile none
		SetEnv HOME=$HOME PATH=$PATH PYTHONDONTWRITEBYTECODE=1
	EOF
	restart_sshd
	cat >ssh/config <<-EOF
		Host spoolhost
		HostName 127.0.0.1
		Port $port
		IdentityFile $scratch/ssh/id
		IdentitiesOnly yes
		UserKnownHostsFile $scratch/ssh/known_hosts
		StrictHostKeyChecking accept-new
		LogLevel ERROR
	EOF
	# ssh looks for its configuration in the home of passwd(5), not in HOME.
	printf '#!/bin/sh\nexec %s -F %s/ssh/config "$@"\n' "$(command -v ssh)" "$scratch" >bin/ssh
	chmod +x bin/ssh
	PATH=$scratch/bin:$PATH
	await ssh spoolhost true || skip_all "sshd does not start here: $(cat sshd.log)"
}
