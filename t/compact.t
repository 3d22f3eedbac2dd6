#!/bin/sh
# cspool-checkpoint and cspool-compact: the log becomes short, and everybody has the same mail as before.
. "$(dirname "$0")/tap.sh"
make_homes
# shellcheck disable=SC2016 # for the shell at the far end
compacts='cspool-checkpoint | cspool-compact'
log_size() { cspool-fetch --after=0 "$HOME/spool" | wc -c; }
on_disk() { cat "$HOME"/spool/*.log | wc -c; }
head_says() { sed -n "s/^$1 //p" "$HOME/spool/head"; }
new_machine() { # NAME: a home that has nothing yet but the key
	mkdir -m 700 "$HOME/$1"
	cp "$HOME/laptop/key" "$HOME/laptop/key.pub" "$HOME/laptop/spool" "$HOME/$1"
}
mail() { # HOME: mailbox, subject and flags of all messages, as IMAP shows them
	on "$1" imap 'a LIST "" *' | sed -n 's/^\* LIST ([^)]*) "\/" //p' | sort | while read -r name; do
		echo "$name"
		on "$1" imap "a SELECT $name" 'b FETCH 1:* (FLAGS BODY.PEEK[])' |
			grep -E '^(Subject|\* [0-9]+ FETCH)' | sed 's/\\Recent *//; s/ *)/)/; s/^\* [0-9]*//' | sort
	done
}
drive() { on laptop imap "$@" >/dev/null && on laptop cspool-sync; }

# Three mails, of which one goes, and some changes.
for number in 1 2 3; do { printf 'Subject: %s\n\n' $number && head -c 4000 /dev/urandom | base64; } | deliver; done
on laptop cspool-sync
drive 'a CREATE Work' 'b SELECT INBOX' 'c STORE 1 +FLAGS (\Deleted)' 'd EXPUNGE' 'e COPY 1 Work' \
	'f STORE 2 +FLAGS (\Flagged)' 'g RENAME Work Done'
expect "the machine that is behind has no say" 75 '' 'cspool-checkpoint: not all of the log has been applied: cspool-sync first' \
	on desktop pipe 'cspool-fetch | head -c 900 | cspool-apply 2>&-; cspool-checkpoint >/dev/null'
before=$(log_size)
next=$(head_says next)
cp -R "$HOME/spool" "$HOME/old"
on laptop cspool-checkpoint >stream
expect "cspool-checkpoint | cspool-compact" 0 '' '' on laptop pipe "$compacts"
ok "the log is shorter" test "$(log_size)" -lt "$before"
is "$(head_says checkpoint)" "$((next - 1)) $next $((next + 1))" "head says where the checkpoint is"
is "$(head_says first)" 1 "and nothing has been lost"
expect "the spool is sound" 0 '*sound*' '' cspool-fsck "$HOME/spool"
ok "what was dropped is on disk for now" test "$(on_disk)" -gt "$before"
expect "the machine that made it" 0 '' '' on laptop cspool-sync
expect "one that is behind" 0 '' '' on desktop cspool-sync
new_machine new
expect "and a new one" 0 '' '' on new cspool-sync
mail laptop >one
mail desktop >two
mail new >three
ok "have the same mail" cmp one two
ok "all of them" cmp one three
ok "and it is not nothing" test "$(grep -c Subject one)" -eq 3

# Again, and out of time.
expect "the same checkpoint again does nothing" 0 '' '' pipe "cspool-compact '$HOME/spool' <stream"
is "$(head_says checkpoint)" "$((next - 1)) $next $((next + 1))" "and leaves the log as it is"
on laptop cspool-checkpoint >stale
printf 'Subject: late\n\n1\n' | deliver
next=$(head_says next)
expect "one that mail has overtaken" 0 '' '' pipe "cspool-compact '$HOME/spool' <stale"
is "$(head_says checkpoint)" "$((next - 2)) $next $((next + 1))" "stands behind that mail"
expect "for who was there" 0 '' '' on laptop cspool-sync
new_machine late
expect "and who was not" 0 '' '' on late cspool-sync
mail laptop >one
mail late >two
ok "the mail is there" cmp one two
ok "all of it" grep -q 'Subject: late' one
expect "a second one, of another machine" 0 '' '' on desktop pipe "cspool-sync && $compacts"
expect "for the first" 0 '' '' on laptop cspool-sync
expect "one older than that does nothing" 0 '' '' pipe "cspool-compact '$HOME/spool' <stale"
cspool-mkspool "$HOME/elsewhere"
expect "one for another spool" 77 '' 'cspool-compact: */elsewhere: the checkpoint is of another spool' \
	pipe "cspool-compact '$HOME/elsewhere' <stream"
on laptop cspool-checkpoint >stale
expect "one for another log of this spool" 77 '' 'cspool-compact: */old: the checkpoint is of another log' \
	pipe "cspool-compact '$HOME/old' <stale"

# Second thoughts: what was dropped can be taken back, as long as it is there.
cp -R "$HOME/spool" "$HOME/back"
rm "$HOME/back/head" "$HOME"/back/segments.*
for segment in "$HOME"/back/*.[1-9].log; do [ ! -e "$segment" ] || rm "$segment"; done
expect "a compaction taken back" 0 '*repaired, nothing is lost*' '' cspool-fsck --repair "$HOME/back"
is "$(cspool-fetch --after=0 "$HOME/back" | tr -d '\0' | wc -c | awk -v before="$before" '{ print ($1 > before / 2) }')" 1 "has what was dropped"
new_machine taken
echo "$HOME/back" >"$HOME/taken/spool"
expect "and can be read from its start" 0 '' '' on taken cspool-sync

# What may not be a checkpoint.
expect "no checkpoint" 65 '' 'cspool-compact: standard input: no checkpoint' \
	pipe "cspool-fetch --after=0 '$HOME/spool' | cspool-compact '$HOME/spool'"
expect "nothing" 75 '' 'cspool-compact: standard input: empty: *' pipe "cspool-compact '$HOME/spool' </dev/null"
expect "half of one" 75 '' 'cspool-compact: standard input: cut off *' \
	pipe "head -c 2000 stale | cspool-compact '$HOME/spool'"
expect "cspool-append does not take one" 65 '' 'cspool-append: standard input: a checkpoint, which is for cspool-compact' \
	pipe "cspool-append '$HOME/spool' <stale"
expect "a spool on a web server" 64 '' 'cspool-compact: http://*: a web server cannot compact a spool; *' \
	cspool-compact http://localhost/alice
expect "no spool" 75 '' 'cspool-compact: */none: no spool here *' pipe "cspool-compact '$HOME/none' <stale"
expect "days that are none" 64 '' 'cspool-compact: --grace=x: not a number' cspool-compact --grace=x "$HOME/spool"

# A key that may compact, and is not the user's: nobody takes it for a checkpoint.
cat >forge.py <<'EOF'
import os, sys
from cspool import command, frame, keys, record
from cspool.database import digest
from cspool.spool.compact import Keep
from cspool.spool.files import Head
home = os.environ["HOME"]
head = Head.parse(open(f"{home}/spool/head", "rb").read(), "head")
mallory, alice = keys.SecretKey(b"m" * 32), keys.read_public(f"{home}/laptop/key.pub")
part = command.checkpoint_part(head.spool, b'["user","%s"]\n' % mallory.public.sign.hex().encode())
last = {"command": "checkpoint", "spool": head.spool.hex(), "number": head.next - 1, "chain": head.chain.hex(),
        "digest": digest.of([part.splitlines()[1]]).hex(), "date": 0, "parts": [command.body_hash(part).hex()]}
out = sys.stdout.buffer
out.write(frame.encode_keep(Keep.of(head.spool, head.next - 1, head.chain, []).text()))
for body in part, command.encode(last):
    out.write(frame.encode(record.seal(body, mallory, alice)))
out.write(frame.encode_end(3))
EOF
cp -R "$HOME/spool" "$HOME/safe"
expect "a stranger's" 0 '' '' pipe "PYTHONPATH=$top/lib python3 forge.py | cspool-compact '$HOME/spool'"
expect "is not loaded" 76 '' "cspool-apply: the checkpoint in records * is signed by a key that is not the user's *" \
	on laptop pipe "rm -f mine.db; cspool-fetch --db=mine.db | cspool-apply --db=mine.db"
expect "and harms nobody who was there" 65 '' '*set aside*' on laptop cspool-sync
cspool-fsck --quiet "$HOME/spool"
rm -rf "$HOME/spool"
mv "$HOME/safe" "$HOME/spool"
expect "when the spool is put back" 76 '' '*' on laptop cspool-sync
on laptop pipe 'cspool-fetch --after=0 | cspool-apply --accept' >/dev/null
on laptop cspool-sync
on desktop cspool-sync

# Damage.
cp -R "$HOME/spool" "$HOME/damaged"
segment=$(sed -n 's/^\(.*\.log\) [0-9]* [0-9]*$/\1/p' "$HOME/damaged/segments.$(sed -n 's/^segments \([0-9]*\).*/\1/p' "$HOME/damaged/head")" | head -n 1)
printf '!' | dd of="$HOME/damaged/$segment" bs=1 seek=500 conv=notrunc 2>/dev/null
expect "a kept record is damaged" 65 '*: record 3: damaged or missing*' '' cspool-fsck "$HOME/damaged"
expect "which cannot be mended" 0 '*: repaired, lost: record 3*' '' cspool-fsck --repair "$HOME/damaged"
new_machine unlucky
echo "$HOME/damaged" >"$HOME/unlucky/spool"
expect "a new machine says so" 76 '' 'cspool-apply: record * missing, which the checkpoint in records * keeps' on unlucky cspool-sync
cp "$HOME/laptop/mail.db" accepted.db
expect "one that has the mail accepts it, and sends it again" 0 '[1-9] messages that the log lacked will be sent again' '' \
	on laptop pipe "cspool-fetch --after=0 '$HOME/damaged' | cspool-apply --accept --db=accepted.db"

# The grace period.
drive 'a SELECT INBOX' 'b STORE 1:* +FLAGS (\Deleted)' 'c EXPUNGE'
expect "after it" 0 '' '' on laptop pipe "cspool-checkpoint | cspool-compact --grace=0"
ok "what was expunged is gone from the disk" test "$(on_disk)" -lt 20000
is "$(find "$HOME/spool" -name '*.log' | wc -l)" "$(wc -l <"$HOME/spool/segments.$(sed -n 's/^segments \([0-9]*\).*/\1/p' "$HOME/spool/head")")" \
	"no file is there that the list does not name"
expect "the spool is sound then" 0 '*sound*' '' cspool-fsck "$HOME/spool"
expect "and everybody goes on" 0 '' '' pipe 'for home in laptop desktop; do CSPOOL_HOME=$HOME/$home cspool-sync || exit; done'
new_machine newer
expect "and begins" 0 '' '' on newer cspool-sync
mail laptop >one
mail newer >two
ok "with the same mail" cmp one two

# What has been dropped goes by itself, if somebody looks.
printf 'Subject: short-lived\n\n1\n' | deliver
on laptop cspool-sync
drive 'a SELECT INBOX' 'b STORE 1:* +FLAGS (\Deleted)' 'c EXPUNGE'
on laptop pipe "$compacts"
dropped() { find "$HOME/spool" -name '*.log' | wc -l; }
before=$(dropped)
expect "nothing expires at once" 0 '' '' cspool-compact --expire "$HOME/spool"
is "$(dropped)" "$before" "so all is there"
expect "but after the grace period" 0 '' '' cspool-compact --expire --grace=0 "$HOME/spool"
ok "it is gone" test "$(dropped)" -lt "$before"
expect "and the spool is sound" 0 '' '' cspool-fsck --quiet "$HOME/spool"

# With something in the outbox, and while the log is away.
on desktop imap 'a SELECT Done' 'b STORE 1 +FLAGS (kept)' >/dev/null
expect "an outbox that is not empty is no obstacle" 0 '' '' on desktop pipe "$compacts"
expect "the change comes behind it" 0 '' '' on desktop cspool-sync
on laptop cspool-sync
ok "and is seen" grep -q kept <<-EOF
	$(mail laptop)
EOF
done_testing
