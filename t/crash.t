#!/bin/sh
# Each tool is killed at each system call that writes, renames or syncs, or told there that the disk is full or broken.
# What was acknowledged is there, and everything goes on without help. CSPOOL_LONG=1: at every one, else at some.
. "$(dirname "$0")/tap.sh"
need strace
strace -o /dev/null true 2>/dev/null || skip_all "strace may not trace here"
make_homes
CALLS='write pwrite64 fdatasync fsync rename unlink ftruncate'
every=13 faults='signal=KILL error=ENOSPC'
[ -z "${CSPOOL_LONG:-}" ] || every=1 faults="$faults error=EIO"

# keep: all homes and the spool as they are; put_back: again.
keep() { rm -rf kept && cp -R "$HOME" kept; }
put_back() { rm -rf "$HOME" && cp -R kept "$HOME"; }

# each_call COMMAND CHECK: run a shell command that uses $trace with a fault at each call of its tool, and then the check,
# all from the same state.
each_call() {
	keep
	trace="strace -qq -o calls -e trace=$(echo "$CALLS" | tr ' ' ,)" sh -c "$1" >/dev/null 2>&1
	runs=0 bad=0
	for call in $CALLS; do
		# Of a call that fails by an error, and not by a signal, the tool must speak.
		for fault in $faults; do
			case $call$fault in unlinkerror* | ftruncateerror*) continue ;; esac
			n=$(grep -cE "^([0-9]+ +)?$call\(" calls)
			at=$(((runs % every) + 1))
			while [ "$at" -le "$n" ]; do
				put_back
				trace="strace -qq -o /dev/null -e trace=$call -e inject=$call:$fault:when=$at"
				export trace
				sh -c "$1" >out 2>err
				runs=$((runs + 1))
				if ! eval "$2" >check.log 2>&1; then
					bad=$((bad + 1))
					echo "# $call $at of $n, $fault:" && sed 's/^/# /' check.log out err
				fi
				at=$((at + every))
			done
		done
	done
	echo "# $runs runs"
	[ "$runs" -gt 0 ] && [ "$bad" -eq 0 ]
}

subjects() {
	imap 'a SELECT INBOX' 'b FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])' |
		tr '\n' ' ' | sed 's/\* [0-9]* FETCH/\n&/g' | sed -n 's/.*FLAGS (\([^)]*\)).*Subject: \([a-z]*\).*/\2 \1/p' | sed 's/ *\\Recent//; s/ *$//' | sort
}
traceback() { ! grep -e Traceback -e 'internal error' err; }

for subject in one two three; do printf 'Subject: %s\n\n1\n' $subject | deliver; done
printf 'Subject: four\n\n4\n' | on mailhost cspool-seal >stream
cp stream "$HOME/stream"

# The mail server tries again, and it is delivered once.
delivers() {
	traceback && case $(tail -1 out) in 0) ;; 75 | 137) ;; *) return 1 ;; esac
	on mailhost cspool-append <"$HOME/stream" && on mailhost cspool-append <"$HOME/stream" &&
		on laptop cspool-sync && cspool-fsck "$HOME/spool" && [ "$(on laptop count_messages)" = 4 ]
}
# What was acknowledged is there without another try.
acknowledged() {
	[ "$(tail -1 out)" != 0 ] || { on desktop cspool-sync && [ "$(on desktop count_messages)" = 4 ]; } && delivers
}
ok "cspool-append" each_call 'CSPOOL_HOME=$HOME/mailhost $trace cspool-append <$HOME/stream; echo $?' acknowledged
on mailhost cspool-append <"$HOME/stream"

applied() { traceback && on laptop cspool-sync && [ "$(on laptop count_messages)" = 4 ]; }
ok "cspool-apply" each_call 'export CSPOOL_HOME=$HOME/laptop; cspool-fetch | $trace cspool-apply' applied
rm -f "$HOME"/desktop/mail.db*
ok "cspool-apply, which makes the database" each_call 'export CSPOOL_HOME=$HOME/desktop; cspool-fetch | $trace cspool-apply' \
	'traceback && on desktop cspool-sync && [ "$(on desktop count_messages)" = 4 ]'

# What the server has said OK to has happened; the rest has happened or not; and both machines agree.
for home in laptop desktop; do on $home cspool-sync; done
cat >session <<'END'
export CSPOOL_HOME=$HOME/laptop
printf '%s\r\n' 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Flagged)' 'c COPY 2 Trash' 'd APPEND INBOX {15+}' 'Subject: five' '' \
	'e STORE 2 +FLAGS (\Deleted)' 'f EXPUNGE' 'g LOGOUT' | $trace cspool-imapd --preauth
END
agrees() {
	traceback || return
	on laptop subjects >here
	if grep -q '^b OK' out; then grep -q 'one .Flagged' here || return; fi
	if grep -q '^d OK' out; then grep -q five here || return; fi
	if grep -q '^e OK' out && grep -q '^f OK' out; then ! grep two here || return; fi
	on laptop cspool-sync && on desktop cspool-sync && on desktop subjects >there && diff here there
}
ok "cspool-imapd" each_call "$(cat session)" agrees
trace='' sh -c "$(cat session)" >/dev/null
ok "cspool-sync, which sends" each_call 'CSPOOL_HOME=$HOME/laptop $trace -f cspool-sync' 'traceback && agrees'


# The log is compacted, or will be; nobody misses anything, and a new machine has the same.
for home in laptop desktop; do on $home cspool-sync; done
on laptop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Deleted)' 'c EXPUNGE' >/dev/null
on laptop cspool-sync
on laptop subjects >expected
on laptop cspool-checkpoint >"$HOME/checkpoint"
mkdir -m 700 "$HOME/new"
cp "$HOME/laptop/key" "$HOME/laptop/key.pub" "$HOME/laptop/spool" "$HOME/new"
compacted() {
	traceback && cspool-fsck "$HOME/spool" && cp -R "$HOME/new" "$HOME/newer" &&
		on newer cspool-sync && on newer subjects >new && diff expected new &&
		cspool-compact --grace=0 "$HOME/spool" <"$HOME/checkpoint" && cspool-fsck "$HOME/spool" &&
		for home in laptop desktop new; do
			on "$home" cspool-sync && on "$home" subjects >there && diff expected there || return
		done
}
ok "cspool-compact" each_call '$trace cspool-compact --grace=0 "$HOME/spool" <"$HOME/checkpoint"' compacted
cspool-compact "$HOME/spool" <"$HOME/checkpoint"
ok "cspool-apply, which loads a checkpoint" each_call 'export CSPOOL_HOME=$HOME/new; cspool-fetch | $trace cspool-apply' \
	'traceback && on new cspool-sync && on new subjects >there && diff expected there'

done_testing
