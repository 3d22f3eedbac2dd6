# TAP for the tests that run the tools. Each t/NAME.t sources it, then runs in a
# fresh directory of its own, with the tools of this tree first in PATH, and
# ends with `done_testing`.

# shellcheck shell=sh
here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*}
PATH=$top/bin:${VENV:-$top/.venv}/bin:$PATH
LC_ALL=C
PYTHONDONTWRITEBYTECODE=1
export PATH LC_ALL PYTHONDONTWRITEBYTECODE
unset CSPOOL_PASSPHRASE_COMMAND CSPOOL_DEBUG

scratch=$(mktemp -d "${TMPDIR:-/tmp}/cspool-t.XXXXXX")
HOME=$scratch/home
export HOME
unset CSPOOL_HOME
mkdir "$HOME"
cd "$scratch" || exit 1
count=0
failed=0
pids=

# At the end of a test, kill the servers that it has started.
cleanup() {
	for pid in $pids; do kill "$pid" 2>/dev/null; done
	cd / && rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# skip_all REASON: skip the tests of this file, which cannot run on this machine.
skip_all() {
	if [ -n "${CSPOOL_NO_SKIP:-}" ]; then
		echo "1..1"
		echo "not ok 1 - must not be skipped: $1"
		exit 1
	fi
	echo "1..0 # SKIP $1"
	exit 0
}

# need COMMAND...: skip all tests unless these commands are installed.
need() {
	for command; do
		command -v "$command" >/dev/null || skip_all "$command is not installed"
	done
}

# ok NAME COMMAND...: test that a command succeeds.
ok() {
	what=$1
	shift
	count=$((count + 1))
	if "$@" >ok.log 2>&1; then
		echo "ok $count - $what"
	else
		failed=$((failed + 1))
		echo "not ok $count - $what"
		sed 's/^/# /' ok.log
	fi
}

# is GOT EXPECTED NAME: test that two texts are equal.
is() {
	count=$((count + 1))
	if [ "$1" = "$2" ]; then
		echo "ok $count - $3"
	else
		failed=$((failed + 1))
		echo "not ok $count - $3"
		printf '%s\n' "expected: $2" "got:      $1" | sed 's/^/# /'
	fi
}

# expect NAME STATUS STDOUT STDERR COMMAND...: run a command and compare all
# three; the texts are shell patterns. Its output remains in the files out and err.
expect() {
	what=$1 want_status=$2 want_out=$3 want_err=$4
	shift 4
	"$@" >out 2>err
	status=$?
	count=$((count + 1))
	if [ "$status" -eq "$want_status" ] && matches "$(tr -d '\0' <out)" "$want_out" && matches "$(cat err)" "$want_err"; then
		echo "ok $count - $what"
	else
		failed=$((failed + 1))
		echo "not ok $count - $what"
		{
			echo "status $status, expected $want_status"
			echo "stdout: $(tr -d '\0' <out)"
			echo "stderr: $(cat err)"
		} | sed 's/^/# /'
	fi
}

# shellcheck disable=SC2254 # the second text is a pattern
matches() {
	case $1 in
	$2) return 0 ;;
	esac
	return 1
}

# pipe SCRIPT: run a pipeline; the status is that of its last stage, as in .forward.
pipe() {
	sh -c "$1"
}

# typed COMMAND... <ANSWERS: run a command on a terminal. An answer is typed each time it asks, and end of file when
# no answer is left.
typed() {
	python3 -c '
import os, pty, sys
answers = sys.stdin.read().splitlines()
pid, terminal = pty.fork()
if not pid:
    os.execvp(sys.argv[1], sys.argv[1:])
try:
    while asked := os.read(terminal, 1000):
        if asked.rstrip().endswith(b":"):
            os.write(terminal, answers.pop(0).encode() + b"\n" if answers else b"\4")
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))' "$@"
}

# to_nobody COMMAND...: run a command whose standard output is a pipe without a reader.
to_nobody() {
	python3 -c 'import os, subprocess, sys
out, into = os.pipe()
os.close(out)
sys.exit(subprocess.run(sys.argv[1:], stdout=into).returncode)' "$@"
}

# to_null COMMAND...: run a command without its standard output.
to_null() {
	"$@" >/dev/null
}

# await COMMAND...: wait until a command succeeds, for at most half a minute.
await() {
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] || return 1
		sleep 0.1
	done
}

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

done_testing() {
	echo "1..$count"
	exit "$((failed > 0))"
}

# make_homes: Alice has two machines, ~/laptop and ~/desktop, and an account on a
# mail host, ~/mailhost, which delivers to the spool ~/spool.
make_homes() {
	cspool-mkspool "$HOME/spool"
	mkdir -m 700 "$HOME/laptop" "$HOME/desktop" "$HOME/mailhost"
	cspool-keygen --comment=alice "$HOME/laptop/key"
	cp "$HOME/laptop/key" "$HOME/laptop/key.pub" "$HOME/desktop"
	cspool-keygen --comment=mailhost "$HOME/mailhost/key"
	cp "$HOME/laptop/key.pub" "$HOME/mailhost/recipient"
	for home in laptop desktop mailhost; do echo "$HOME/spool" >"$HOME/$home/spool"; done
	on laptop pipe 'cspool-fetch | cspool-apply'
	on laptop cspool-trust "$HOME/mailhost/key.pub"
	on laptop sync_home
	on desktop sync_home
}

# on HOME COMMAND...: run a command on the machine with this home.
on() {
	CSPOOL_HOME=$HOME/$1
	export CSPOOL_HOME
	shift
	"$@"
	status=$?
	unset CSPOOL_HOME
	return $status
}

sync_home() {
	pipe 'cspool-fetch | cspool-apply' && pipe 'cspool-outbox | cspool-append' && pipe 'cspool-fetch | cspool-apply'
}

deliver() {
	on mailhost pipe 'cspool-seal | cspool-append'
}

# imap LINE...: print the answers of cspool-imapd to these lines.
imap() {
	printf '%s\r\n' "$@" 'bye LOGOUT' | cspool-imapd --preauth | tr -d '\r'
}

# count_messages: print the number of messages in the INBOX of the current home.
count_messages() {
	imap 'a STATUS INBOX (MESSAGES)' | sed -n 's/.*MESSAGES \([0-9]*\).*/\1/p'
}

# readme START [N]: print the commands after the README's line that starts like this, or the Nth block of them.
readme() {
	awk -v start="$1" -v n="${2:-1}" 'index($0, start) == 1 { found = 1 }
		found && /^    / { inside = 1; if (block == n - 1) print substr($0, 5); next }
		inside { inside = 0; if (++block == n) exit }' "$top/README"
}

# page PAGE SECTION [N]: print the Nth block of a section of a manual page, as a reader sees it.
page() {
	awk -v start="$2" -v n="${3:-1}" '/^\.S[hs] / { found = substr($0, 5) == start; next }
		/^\.Bd/ { inside = found && ++block == n; next }
		/^\.Ed/ { inside = 0 }
		inside { gsub(/\\e/, "\\"); gsub(/\\\(aq/, "\047"); print }' "$top/man/$1"
}
