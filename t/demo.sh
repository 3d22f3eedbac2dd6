#!/bin/sh
# make demo: run all of cspool in a scratch directory. It delivers the files given
# as arguments, or else the messages in t/mail. With LISTEN=1 an IMAP server
# listens on 127.0.0.1:1143 at the end.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- "$here"/mail/*.eml

demo=$(mktemp -d "${TMPDIR:-/tmp}/cspool-demo.XXXXXX")
trap 'rm -rf "$demo"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -m 700 "$demo/laptop" "$demo/desktop" "$demo/mailhost"

say() { printf '\n# %s\n' "$*"; }

# at HOME PIPELINE: show a pipeline, and run it on the machine with this home.
at() {
	printf '%s$ %s\n' "$1" "$2"
	(cd "$demo" && CSPOOL_HOME=$demo/$1 sh -c "$2")
}

say "Alice has a key on her laptop, a copy of it on her desktop, and a spool."
at laptop 'cspool-keygen --comment=alice laptop/key'
at desktop 'cp laptop/key laptop/key.pub desktop'
at laptop 'cspool-mkspool spool'
for home in laptop desktop mailhost; do echo "$demo/spool" >"$demo/$home/spool"; done

say "Her mail host has a key of its own, which can deliver, and knows her public one."
at mailhost 'cspool-keygen --comment=mailhost mailhost/key; cp laptop/key.pub mailhost/recipient'

say "She says on her laptop that this host may deliver. That is a change, and goes through the spool."
at laptop 'cspool-fetch | cspool-apply'
at laptop 'cspool-trust mailhost/key.pub'
at laptop 'cspool-outbox | cspool-append'

say "Mail arrives. The mail server runs this for each message:"
echo 'mailhost$ cspool-seal | cspool-append || exit 75'
for message; do
	echo "  $(basename "$message"), $(wc -c <"$message" | tr -d ' ') octets"
	CSPOOL_HOME=$demo/mailhost sh -c 'cspool-seal | cspool-append || exit 75' <"$message"
done

say "What the operator of the spool sees:"
at mailhost 'ls -l spool; grep -c -i subject spool/*.log || echo "no subject to be found"'

say "Both machines replay the log."
at laptop 'cspool-fetch | cspool-apply'
at desktop 'cspool-fetch | cspool-apply'

# imap HOME COMMAND...: send commands to cspool-imapd, and show the flags and subjects in its answers.
imap() {
	home=$1
	shift
	for command; do echo "$home> $command"; done
	printf 'a %s\r\n' "$@" LOGOUT | CSPOOL_HOME=$demo/$home cspool-imapd --preauth |
		tr -d '\r' | grep -E '^\* .*FETCH|^Subject'
}

say "A mail client on the laptop looks into INBOX, and flags the first message."
imap laptop 'SELECT INBOX' 'STORE 1 +FLAGS (\Flagged)' \
	'FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])'

say "The change is sent, and the desktop has it."
at laptop 'cspool-outbox | cspool-append && cspool-fetch | cspool-apply'
at desktop 'cspool-fetch | cspool-apply'
imap desktop 'EXAMINE INBOX' 'FETCH 1:* (FLAGS)'

CSPOOL_HOME=$demo/desktop sh -c 'echo demo | cspool-imapd --set-password'
if [ -n "${LISTEN:-}" ]; then
	say "An IMAP server listens on 127.0.0.1:1143: any user name, password 'demo', no TLS. Stop it with ^C."
	trap : INT
	CSPOOL_HOME=$demo/desktop cspool-imapd --listen=127.0.0.1:"${PORT:-1143}" || true
else
	say "That was it. 'make demo LISTEN=1' leaves an IMAP server listening, for a mail client of yours."
fi
