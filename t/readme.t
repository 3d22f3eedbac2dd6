#!/bin/sh
# What README and cspool(7) print is run as printed.
. "$(dirname "$0")/tap.sh"
ln -s "$top/t" t

readme 'They need Python' >pipeline
is "$(grep -c . pipeline)" 4 "the pipeline of the README has four lines"
expect "and runs as printed" 0 '*Subject: The tea party*b OK FETCH completed*' '' sh -e pipeline
expect "make demo runs, and shows the flag on the other machine" 0 '*desktop> FETCH*(FLAGS (*\\Flagged))*' '' \
	env MAIL=/nowhere TMPDIR="$scratch" make -s -C "$top" demo VENV="${VENV:-.venv}"
is "$(find . -maxdepth 1 -name 'cspool-demo*')" "" "and leaves nothing behind"
printf 'Subject: given\n\nby hand\n' >own
expect "make demo MAIL= shows what it is given" 0 '*Subject: given*' '' \
	env MAIL=/nowhere TMPDIR="$scratch" make -s -C "$top" demo MAIL="$scratch/own" VENV="${VENV:-.venv}"

# make demo LISTEN=1
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
TMPDIR=$scratch LISTEN=1 PORT=$port sh "$top/t/demo.sh" >demo.log 2>&1 &
demo=$!
login() {
	python3 -c "
import imaplib
server = imaplib.IMAP4('127.0.0.1', $port)
server.login('alice', 'demo')
assert server.select()[1] == [b'4']
server.logout()"
}
ok "make demo LISTEN=1 leaves an IMAP server" await login
kill "$(ps -o pid= --ppid $demo | tail -1)" $demo
wait $demo
ok "until it is stopped" sh -c "! python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", $port))'"

done_testing
