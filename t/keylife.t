#!/bin/sh
# The life of keys, as cspool-security(7) has it: a mail host's key is lost, the user's is changed, a machine is revoked.
. "$(dirname "$0")/tap.sh"
make_homes
spool=$HOME/spool
send() { printf 'Subject: %s\n\n%s\n' "$1" "$1" | deliver; }
both() { # the status of the last that said something
	worst=0
	for home in laptop desktop laptop; do on $home cspool-sync || worst=$?; done
	return $worst
}
subjects() { imap 'a SELECT INBOX' 'b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]' | sed -n 's/^Subject: //p' | sort | xargs; }
flag() { imap 'a SELECT INBOX' "b STORE 1 +FLAGS ($1)" | grep -q '^b OK'; }
has_flag() { imap 'a SELECT INBOX' 'b FETCH 1 (FLAGS)' | grep -q "$1"; }
send one
both

# The key of a mail host is stolen: a new one, trusted; the old one, trusted no more.
cp -R "$HOME/mailhost" "$HOME/thief"
rm "$HOME/mailhost/key" "$HOME/mailhost/key.pub"
cspool-keygen "$HOME/mailhost/key"
printf 'Subject: before\n\nforged\n' | on thief pipe 'cspool-seal | cspool-append'
on laptop cspool-trust "$HOME/mailhost/key.pub"
on laptop cspool-trust --distrust "$HOME/thief/key.pub"
expect "the host's key is changed" 0 '' '' on laptop cspool-sync
send two
printf 'Subject: after\n\nforged\n' | on thief pipe 'cspool-seal | cspool-append'
expect "mail of the old key is refused from there on" 65 '' '*cspool-apply: record 6 is set aside: signed by a key that is not trusted (*)' both
for home in laptop desktop; do is "$(on $home subjects)" "before one two" "what came before stays, on $home"; done

# The user's key is changed, while the desktop has a change that it has not sent.
on desktop flag Offline
cp -R "$HOME/laptop" "$HOME/stolen"
expect "a new key" 0 '' '' cspool-keygen "$HOME/new"
expect "is no key yet" 66 '' '*none: no such file*' on laptop cspool-rekey none
expect "it becomes the user's" 0 "Now cspool-sync. Then copy *" '' on laptop cspool-rekey "$HOME/new"
expect "twice is once" 0 "Now cspool-sync. *" '' on laptop cspool-rekey "$HOME/new"
on laptop flag '\Flagged'
expect "and is sent" 0 '' '' on laptop cspool-sync
is "$(on laptop subjects)" "before one two" "old mail is readable"
is "$(stat -c %a "$HOME/laptop/key" | xargs)" "600" "keys are for their owner"
cp "$HOME/laptop/key.pub" "$HOME/mailhost/recipient"
send three
expect "mail is sealed to the new one" 0 '' '' on laptop cspool-sync
is "$(on laptop subjects)" "before one three two" "and readable"

expect "a machine without the new key stops" 78 '' 'cspool-apply: record * makes * the key of the user: we need it' on desktop cspool-sync
ok "and keeps what it has" on desktop has_flag Offline
is "$(on desktop subjects)" "before one two" "and its mail"
cp "$HOME/laptop/key" "$HOME/laptop/key.pub" "$HOME/desktop"
expect "with it, all goes on, but for what was sent without" 65 '' '*set aside: signed by a key that is not trusted*' both
for home in laptop desktop; do
	ok "flags of both, on $home" on $home has_flag 'Offline.*Flagged\|Flagged.*Offline'
	is "$(on $home subjects)" "before one three two" "and mail"
done

# The machine that was stolen can do nothing any more, and read nothing new.
on stolen flag Stolen
on stolen pipe 'cspool-outbox | cspool-append'
printf 'Subject: forged\n\n\n' | cspool-seal --from="$HOME/stolen/key" --to="$HOME/laptop/key.pub" | cspool-append "$spool"
expect "what the old key signs is set aside" 65 '' "cspool-apply: 2 records from * to * are set aside: signed by a key that is not trusted (*)" on laptop cspool-sync
expect "everywhere" 65 '' '*' on desktop cspool-sync
on laptop has_flag Stolen
is $? 1 "no flag of it"
expect "it reads nothing new" 78 '' '*we need it' on stolen cspool-sync
is "$(on stolen subjects)" "before one two" "only what it had"

# A copy of key is whole: a new machine has all mail.
expect "a new machine" 0 '*' '*set aside*' on tablet cspool-setup --key="$HOME/laptop/key" "$spool"
is "$(on tablet subjects)" "before one three two" "has all mail"

# And so where the log has been compacted.
expect "on the first machine" 65 '' '*set aside: signed by a key that is not trusted*' on laptop cspool-sync
cp -R "$spool" "$HOME/compacted"
on laptop pipe "cspool-checkpoint | cspool-compact '$HOME/compacted'"
for home in later less; do mkdir -m 700 "$HOME/$home" && cp "$HOME/laptop/key" "$HOME/$home" && echo "$HOME/compacted" >"$HOME/$home/spool"; done
sed -i 2d "$HOME/less/key"
expect "a compacted log, with all keys" 65 '' '*set aside*' on later cspool-sync
is "$(on later subjects)" "before one three two" "has all mail, too"
expect "with the newest alone" 78 '' 'cspool-apply: record *, which the checkpoint in records * keeps: * is an old key missing?' \
	on less cspool-sync
cp "$HOME/laptop/key" "$HOME/less"
expect "until the old one is there" 65 '' '*set aside*' on less cspool-sync
is "$(on less subjects)" "before one three two" "and all mail"

# Keys that are locked: one passphrase for all.
CSPOOL_PASSPHRASE_COMMAND='echo secret'
export CSPOOL_PASSPHRASE_COMMAND
cspool-keygen --passphrase "$HOME/locked"
expect "a locked key" 0 '*' '' on laptop cspool-rekey "$HOME/locked"
expect "works" 0 '' '' on laptop cspool-sync
cspool-keygen --passphrase "$HOME/locked2"
expect "a second" 0 '*' '' on laptop cspool-rekey "$HOME/locked2"
expect "too" 0 '' '' on laptop cspool-sync
is "$(on laptop subjects)" "before one three two" "with all mail"

# Two changes before a sync: each takes effect, and what comes after is sent.
unset CSPOOL_PASSPHRASE_COMMAND
for home in one two; do mkdir -m 700 "$HOME/$home"; done
cspool-keygen "$HOME/one/key" && cspool-mkspool "$HOME/other" && echo "$HOME/other" >"$HOME/one/spool"
on one cspool-sync
for number in 1 2; do
	cspool-keygen "$HOME/again$number"
	on one cspool-rekey "$HOME/again$number" >/dev/null
done
expect "two at once" 0 '' '' on one cspool-sync
expect "are in the log" 0 '' '' on one cspool-sync
on one imap 'a CREATE work' | grep -q '^a OK'
expect "and changes go on" 0 '' '' on one cspool-sync
is "$(python3 -c "
import os, sqlite3
print(*sqlite3.connect(os.environ['HOME'] + '/one/mail.db').execute('SELECT count(*) FROM outbox').fetchone())")" 0 "all sent"
is "$(grep -c . "$HOME/one/key")" 3 "the ring has three keys"

# A thief of the old key and the operator show a new machine a log that was cut before the change.
cp -R "$HOME/other" "$HOME/cut"
cspool-keygen "$HOME/again3" && on one cspool-rekey "$HOME/again3" >/dev/null && on one cspool-sync
cp "$HOME/one/key" "$HOME/two" && echo "$HOME/cut" >"$HOME/two/spool"
expect "a log that ends before the newest key" 76 '' 'cspool-apply: the log ends before * became the key of the user, *' on two cspool-sync
echo "$HOME/other" >"$HOME/two/spool"
expect "the whole log" 0 '' '' on two cspool-sync

# What a key file may ask of us.
python3 -c "
import base64, os, struct
for opslimit, memlimit in (2**32 - 1, 1 << 13), (3, 2**32 - 1):
    print('cspool-locked-key-1', base64.b64encode(struct.pack('>II16s', opslimit, memlimit, os.urandom(16)) + os.urandom(72)).decode())" >"$HOME/endless"
chmod 600 "$HOME/endless"
expect "a key that takes years to unlock" 78 '' 'cspool-open: *: not a secret key of cspool, or damaged' \
	env CSPOOL_PASSPHRASE_COMMAND='echo x' timeout 20 cspool-open --key="$HOME/endless"
sed -i 1d "$HOME/endless"
expect "or too much memory" 78 '' 'cspool-open: *: not a secret key of cspool, or damaged' \
	env CSPOOL_PASSPHRASE_COMMAND='echo x' timeout 20 cspool-open --key="$HOME/endless"
is "$(PYTHONPATH=$top/lib python3 -c "
import resource
from cspool import keys
keys.SecretKey(bytes(32))
print(*resource.getrlimit(resource.RLIMIT_CORE))")" "0 0" "no core file has a key"

done_testing
