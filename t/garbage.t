#!/bin/sh
# A log of mail that has come, been flagged over and over and gone again: it becomes as short as what is left.
# CSPOOL_LONG=1: a thousand rounds of ten messages, else sixty.
. "$(dirname "$0")/tap.sh"
make_homes
rounds=60
[ -z "${CSPOOL_LONG:-}" ] || rounds=1000
log_size() { cspool-fetch --after=0 "$HOME/spool" | wc -c; }
new_machine() {
	mkdir -m 700 "$HOME/$1"
	cp "$HOME/laptop/key" "$HOME/laptop/key.pub" "$HOME/laptop/spool" "$HOME/$1"
}
mail() { on "$1" imap 'a LIST "" *' 'b SELECT Renamed' 'c FETCH 1:* (FLAGS BODY.PEEK[])' | grep -v OK; }

# Each round: ten deliveries, a hundred changes of flags, nine expunged, one moved to a mailbox that is renamed all the time.
cat >live.py <<'EOF'
import io, os, random, sys
from cspool import command, frame, home, keys, record
from cspool.database import checkpoint, outbox, schema, seen, view
from cspool.database.replay import Replay
from cspool.spool.append import Spool
rounds, draw = int(sys.argv[1]), random.Random(7)
own, host = home.user_keys(None), keys.SecretKey(b"h" * 32)
spool = Spool(os.environ["HOME"] + "/spool")
def append(records):
    spool.append(records)
def sync(db):
    append([record.seal(body, own[0], own[0].public) for body in outbox.bodies(db)])
    fetch(db)
def fetch(db):
    head, octets = spool.reader.frames(seen.reached(db))
    stream = frame.encode_head(head.text()) + b"".join(octets)
    spool.reader.count, count = 0, spool.reader.count
    Replay(db, own).run(frame.read(io.BytesIO(stream + frame.encode_end(count + 1))))
with schema.opened(home.path("mail.db")) as db:
    def change(*rows):
        with schema.writing(db):
            view.change(db, list(rows))
    name = "Kept"
    fetch(db)
    change({"do": "trust", "key": host.public.sign.hex(), "comment": "host"}, {"do": "create", "name": name, "nonce": "01" * 16})
    sync(db)
    box = command.create_id(bytes([1]) * 16, name).hex()
    for number in range(rounds):
        append([record.seal(command.deliver(
            b"Subject: %d.%d\r\n\r\n" % (number, one) + draw.randbytes(draw.randint(200, 3000)).hex().encode() + b"\r\n", 1), host, own[0].public)
            for one in range(10)])
        fetch(db)
        ids = [one for (one,) in db.execute("SELECT id FROM message WHERE mailbox = 1 ORDER BY key")]
        every = b"".join(ids).hex()
        for time in range(50):
            change({"do": "add-flags", "flags": ["\\Seen"], "ids": every})
            change({"do": "remove-flags", "flags": ["\\Seen"], "ids": every})
            if time % 10 == 0:
                sync(db)
        change({"do": "move", "mailbox": box, "ids": ids[0].hex()})
        change({"do": "expunge", "ids": b"".join(ids[1:]).hex()})
        for name in (f"Kept{number}", f"{number}", "Renamed"):
            change({"do": "rename", "mailbox": box, "name": name})
        sync(db)
    assert db.execute("SELECT count(*) FROM message").fetchone() == (rounds,)
    octets, needed = checkpoint.sizes(db)
print(needed)
EOF
needed=$(CSPOOL_HOME=$HOME/laptop PYTHONPATH=$top/lib python3 live.py $rounds)
before=$(log_size)
ok "cspool-sync --checkpoint sees that it is worth it" on laptop cspool-sync --checkpoint
after=$(log_size)
on laptop cspool-checkpoint >stream
state=$(wc -c <stream)
hashes=$((32 * $(sed -n 's/^next //p' "$HOME/spool/head")))
echo "# $before octets before, $after after: $needed of live records, $state of state, $hashes of hashes"
# A new machine is given the state first, and again in its place.
ok "the log shrinks to what is live, the state, and hashes" test $((after * 10)) -le $(((needed + 2 * state + hashes) * 11))
ok "which is much less" test $((after * 5)) -lt "$before"
expect "and is not worth it again" 0 '' '' on laptop cspool-sync --checkpoint
is "$(log_size)" "$after" "so nothing is done"
new_machine new
expect "a new machine" 0 '' '' on new cspool-sync
mail laptop >one
mail new >two
ok "has the same mail" cmp one two
is "$(grep -c '^Subject' one)" "$rounds" "all of it"
expect "and so has one that has seen nothing of it yet" 0 '' '' on desktop cspool-sync
mail desktop >two
ok "the same" cmp one two
ok "both machines at once do no harm" pipe '
	for home in laptop desktop; do CSPOOL_HOME=$HOME/$home cspool-checkpoint | cspool-compact "$HOME/spool" & done; wait; cspool-fsck "$HOME/spool"'
for home in laptop desktop new; do expect "and $home goes on" 0 '' '' on $home cspool-sync; done

# While it stays: much comes, and goes again.
head -c 3000000 /dev/urandom | base64 | sed '1s/^/Subject: large\n\n/' | deliver
on laptop cspool-sync
number=$(on laptop imap 'a SELECT INBOX' | sed -n 's/^\* \([0-9]*\) EXISTS/\1/p')
on laptop imap 'a SELECT INBOX' "b STORE $number +FLAGS (\\Deleted)" 'c EXPUNGE' >/dev/null
CSPOOL_HOME=$HOME/laptop cspool-sync --follow --checkpoint &
pids="$pids $!"
before=$(sed -n 's/^checkpoint //p' "$HOME/spool/head")
ok "cspool-sync --follow --checkpoint has it compacted" await sh -c "! grep -q '^checkpoint $before' '$HOME/spool/head'"
kill $!
wait $!
is $? 0 "and ends well"
expect "everybody goes on" 0 '' '' on desktop cspool-sync
# A key that may not compact: mail comes all the same.
head -c 3000000 /dev/urandom | base64 | sed '1s/^/Subject: large\n\n/' | deliver
on laptop cspool-sync
on laptop imap 'a SELECT INBOX' "b STORE $number +FLAGS (\\Deleted)" 'c EXPUNGE' >/dev/null
mkdir refusing
printf '#!/bin/sh\ncase $* in "-G "*) exit 0 ;; *cspool-compact*) echo "cspool-shell: this key is only for others" >&2; exit 77 ;; esac\nfor there; do :; done\nexec sh -c "$there"\n' >refusing/ssh
chmod +x refusing/ssh
echo "far:$HOME/spool" >"$HOME/laptop/spool"
CSPOOL_HOME=$HOME/laptop PATH=$scratch/refusing:$PATH cspool-sync --follow --checkpoint 2>said &
pids="$pids $!"
ok "where it is not allowed, it is said" await grep -q 'this key is only for others' said
printf 'Subject: after\n\n1\n' | deliver
ok "and mail comes" await sh -c "CSPOOL_HOME=$HOME/laptop cspool-status --offline --json | grep -q '\"applied\": $(sed -n 's/^next //p' "$HOME/spool/head" | awk '{ print $1 - 1 }'),'"
kill $!
echo "$HOME/spool" >"$HOME/laptop/spool"
expect "and goes again with one that may" 0 '' '' on laptop cspool-sync --checkpoint
ok "with a short log" test "$(log_size)" -le $((after + after / 5))
done_testing
