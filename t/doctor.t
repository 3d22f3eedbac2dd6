#!/bin/sh
# cspool-doctor: what is wrong with a machine, and what to do.
. "$(dirname "$0")/tap.sh"

# A machine where nothing schedules anything, and no crontab of the one who runs this.
mkdir bin
printf '#!/bin/sh\ncat "%s/crontab" 2>/dev/null\n' "$scratch" >bin/crontab
printf '#!/bin/sh\nexit 3\n' >bin/systemctl
chmod +x bin/*
PATH=$scratch/bin:$PATH

expect "a machine without a home" 1 '*BAD   home *missing*-> cspool-setup SPOOL: cspool-setup(1)*' '' cspool doctor
make_homes
expect "a machine that is well" 0 'well  versions*well  home*well  key*well  spool*well  mail*well  trust *mailhost*well  sync*well  clock*' '' \
	on laptop cspool-doctor
ok "says nothing bad" sh -c '! grep BAD out'
expect "offline" 0 '*well  spool *not asked*' '' on laptop cspool-doctor --offline

chmod 755 "$HOME/laptop"
expect "a home that others may enter" 1 "*BAD   home *accessible to others*-> chmod 700 $HOME/laptop: cspool-home(5)*" '' on laptop cspool-doctor
chmod 700 "$HOME/laptop"
chmod 644 "$HOME/laptop/key"
expect "a key that others can read" 1 "*BAD   key *readable by others*-> chmod 600 $HOME/laptop/key: *" '' on laptop cspool-doctor
chmod 600 "$HOME/laptop/key"
mv "$HOME/laptop/key" away
expect "no key" 1 '*BAD   key *no such file*-> copy it from your backup*: cspool-recovery(7)*' '' on laptop cspool-doctor
mv away "$HOME/laptop/key"
cp "$HOME/mailhost/key.pub" "$HOME/laptop/key.pub"
expect "another public key" 1 '*BAD   key *public half of another key*' '' on laptop cspool-doctor
cp "$HOME/desktop/key.pub" "$HOME/laptop/key.pub"
echo nowhere.invalid:x >"$HOME/laptop/spool"
expect "a spool that cannot be reached" 1 '*BAD   spool *no such host*-> *cspool(7)*' '' on laptop cspool-doctor
cspool-mkspool other
echo "$PWD/other" >"$HOME/laptop/spool"
expect "another spool" 1 '*BAD   spool *contradicts what has been seen*cspool-recovery(7)*' '' on laptop cspool-doctor
echo "$HOME/spool" >"$HOME/laptop/spool"

cp "$HOME/laptop/mail.db" good.db
rm -f "$HOME/laptop"/mail.db-*
echo rubbish >"$HOME/laptop/mail.db"
expect "a damaged message database" 1 '*well  spool*BAD   mail *not a message database*-> keep it as *mail.db.old*schedule*' '' on laptop cspool-doctor
mv good.db "$HOME/laptop/mail.db"

# Mail hosts.
mkdir -m 700 "$HOME/stranger"
cspool-keygen "$HOME/stranger/key"
printf 'Subject: x\n\n1\n' | cspool-seal --from="$HOME/stranger/key" --to="$HOME/laptop/key.pub" | cspool-append "$HOME/spool"
on laptop cspool-sync 2>/dev/null
expect "mail of a stranger" 1 '*BAD   trust *1 records of hosts that are not trusted*-> cspool-trust --list*' '' on laptop cspool-doctor
on laptop cspool-aside --discard=1-99
on laptop cspool-sync
echo 'cspool-sync: the key is gone' >"$HOME/laptop/sync.failed"
expect "a sync that has failed" 1 '*BAD   sync *the key is gone*' '' on laptop cspool-doctor
rm "$HOME/laptop/sync.failed"
python3 -c "
import sqlite3, sys, time
with sqlite3.connect(sys.argv[1]) as db:
    db.execute('UPDATE cursor SET sealed = ?', (int(time.time()) + 86400 * 3,))" "$HOME/laptop/mail.db"
expect "a clock that is wrong" 1 '*BAD   clock *71 hours later*' '' on laptop cspool-doctor
on laptop rm mail.db 2>/dev/null
rm "$HOME/laptop/mail.db"
on laptop cspool-sync

# What runs cspool-sync.
expect "nothing" 0 '*note  schedule *nothing runs cspool-sync*-> crontab -e: [*]/5 *cspool-sync --quiet*' '' on laptop cspool-doctor
echo '*/5 * * * * cspool-sync --quiet' >"$scratch/crontab"
expect "a crontab whose PATH lacks it" 1 "*BAD   schedule *not in the PATH of cron*-> write $top/bin/cspool-sync*" '' on laptop cspool-doctor
echo "*/5 * * * * $top/bin/cspool-sync --quiet" >"$scratch/crontab"
expect "a crontab with its path" 0 '*well  schedule  crontab: *' '' on laptop cspool-doctor
printf 'PATH=%s\n*/5 * * * * cspool-sync --quiet\n' "$top/bin" >"$scratch/crontab"
expect "a crontab with a PATH" 0 '*well  schedule  crontab: *' '' on laptop cspool-doctor
printf '#!/bin/sh\nexit 0\n' >bin/systemctl
expect "a unit of systemd" 0 '*well  schedule *systemctl*' '' on laptop cspool-doctor

# A mail host.
before=$(cspool-fetch --after=0 "$HOME/spool" | cksum)
expect "a mail host that is well" 0 'well  versions*well  home*well  key*well  recipient*well  append*' '' on mailhost cspool-doctor
is "$(cspool-fetch --after=0 "$HOME/spool" | cksum)" "$before" "and nothing was appended"
cp "$HOME/mailhost/key.pub" "$HOME/mailhost/recipient"
expect "whose recipient is itself" 1 '*BAD   recipient *only this host could read*' '' on mailhost cspool-doctor
cp "$HOME/laptop/key.pub" "$HOME/mailhost/recipient"
echo /nowhere >"$HOME/mailhost/spool"
expect "that cannot append" 1 '*BAD   append *no spool here*' '' on mailhost cspool-doctor
echo "$HOME/spool" >"$HOME/mailhost/spool"

# Backups.
printf 'Subject: one\n\n1\n' | deliver
on laptop cspool-sync
mkdir backup
expect "a backup of nothing" 1 'BAD   key *nothing can be read without it*' '' on laptop cspool-doctor --backup=backup
chmod 644 backup/key 2>/dev/null
echo rubbish >backup/key
expect "a key that is none" 1 'BAD   key *not a secret key*' '' on laptop cspool-doctor --backup=backup
cp "$HOME/laptop/key" backup
expect "a backup without the spool" 1 '*BAD   spool *neither a spool nor a stream*' '' on laptop cspool-doctor --backup=backup
cspool-fetch --after=0 "$HOME/spool" >backup/stream
expect "a stream" 0 'well  key *well  spool *backup/stream: 1 messages in * records can be read' '' on laptop cspool-doctor --backup=backup
printf 'Subject: two\n\n2\n' | deliver
on laptop cspool-sync
expect "one that is old" 0 '*note  spool *1 have come since*' '' on laptop cspool-doctor --backup=backup
head -c 500 backup/stream >"$scratch/part" && mv part backup/stream
expect "one that is cut off" 1 '*BAD   spool *not all of it could be read*' '*' on laptop cspool-doctor --backup=backup
rm backup/stream
cp -r "$HOME/spool" backup
expect "a copy of the spool" 0 'well  key *well  spool *backup/spool: 2 messages in *' '' on laptop cspool-doctor --backup=backup
cp "$HOME/stranger/key" backup/key
expect "with another key" 1 '*BAD   spool *opens nothing*' '*' on laptop cspool-doctor --backup=backup

done_testing
