#!/bin/sh
# cspool-recovery(7), pasted: each case on real machines, from what has happened to the last command.
. "$(dirname "$0")/hosts.sh"
[ -x /usr/sbin/postfix ] || skip_all "postfix is not installed"
need jq

# The machines, as the README sets them up, and a desktop; new is for the day when vps is gone.
for name in vps new laptop desktop; do machine $name; done
know_each_other vps new laptop desktop
for name in vps new laptop desktop; do
	root $name "$(readme 'First install' | grep '^make')"
	alice $name "mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -C alice@$name -f .ssh/id_ed25519
		printf 'Host *\nStrictHostKeyChecking accept-new\nLogLevel ERROR\nConnectTimeout 5\n' >.ssh/config"
	start_sshd $name
done >install.log 2>&1
for name in laptop desktop; do alice $name 'cat .ssh/id_ed25519.pub'; done >allowed
for name in vps new desktop; do alice $name 'cat >.ssh/authorized_keys' <allowed; done
for name in vps new; do start_postfix $name; done
await alice laptop 'ssh alice@vps.example.org true'
await alice desktop 'ssh alice@vps.example.org true'
alice laptop "set -e; $(readme 'Then set up both')" >setup.log 2>&1 || cat setup.log
# copy_key FROM TO FILE: carry the key by hand.
copy_key() { alice "$1" 'cat .cspool/key' | alice "$2" "umask 077; cat >$3"; }
copy_key laptop desktop key
alice desktop 'cspool-setup --key=key alice@vps.example.org:spool' >setup.log 2>&1 || cat setup.log

# paste MACHINE SECTION [N]: run a block of the page there.
paste() {
	page cspool-recovery.7 "$2" "${3:-1}" >block
	[ -s block ] || echo "no such block: $2 ${3:-1}" >&2
	alice "$1" "$(cat block)"
}
# mail SUBJECT [MACHINE]: a message comes in.
mail() {
	root "${2:-vps}" "python3 -c \"
import smtplib
smtplib.SMTP('127.0.0.1', 25).sendmail('bob@example.org', 'alice@example.org', 'Subject: $1\r\n\r\n$1\r\n')\""
}
# subjects MACHINE [MAILBOX]
subjects() {
	alice "$1" "printf '%s\r\n' 'a EXAMINE \"${2:-INBOX}\"' 'b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]' 'c LOGOUT' |
		cspool-imapd --preauth" | tr -d '\r' | sed -n 's/^Subject: //p' | grep -v '^cspool test' | sort | xargs
}
comes() { # MACHINE SUBJECT: the message is there after a sync
	alice "$1" cspool-sync 2>/dev/null
	subjects "$1" | grep -qw "$2"
}
mail one
ok "a message" await comes laptop one
expect "the doctor" 0 '*well  spool*' '' paste laptop DESCRIPTION

# Backups.
alice vps "printf 'Subject: listed\n\nx\n' | cspool-seal --mailbox=Lists | cspool-append"
alice laptop "cspool-sync; printf '%s\r\n' 'a APPEND Lists {17+}' 'Subject: moved' '' 'b LOGOUT' | cspool-imapd --preauth; cspool-sync" >/dev/null
expect "a backup" 0 '' '' paste laptop 'WHAT TO BACK UP'
expect "is one" 0 'well  key*well  spool *4 messages*' '' paste laptop 'WHAT TO BACK UP' 2

# A folder is deleted.
alice laptop "printf '%s\r\n' 'a DELETE Lists' 'b LOGOUT' | cspool-imapd --preauth; cspool-sync" >/dev/null
is "$(subjects laptop Lists)" "" "a folder is gone"
expect "what was delivered to it" 0 '' '' paste laptop 'I DELETED A FOLDER'
is "$(subjects laptop Rescued)" "listed" "comes back"
alice laptop 'cp backup/stream backup/../backup.stream && mkdir -p old && mv backup.stream old/backup'
page cspool-recovery.7 'I DELETED A FOLDER' 2 >block
expect "and what was moved there" 0 '*' '' alice laptop "cd old; $(cat block)"
is "$(subjects laptop Rescued)" "listed moved" "from a backup"

# A full disk, a wrong clock.
expect "room on the spool host" 0 '' '' paste vps 'DISK FULL'
expect "and in the log" 0 '*' '' paste laptop 'DISK FULL' 2
expect "a clock that was wrong" 0 '*well  clock*' '' paste laptop 'CLOCK WRONG'

# The message database is damaged.
alice laptop 'rm -f .cspool/mail.db-*; echo rubbish >.cspool/mail.db'
expect "a damaged message database" 78 '' '*not a message database*' alice laptop cspool-sync
expect "is made again" 0 '' '' paste laptop 'MESSAGE DATABASE DAMAGED'
is "$(subjects laptop Rescued)" "listed moved" "with all mail"

# The key is lost on one machine.
alice laptop 'rm .cspool/key'
expect "no key" 66 '' '*key: no such file*' alice laptop cspool-sync
expect "it is brought from another" 0 '' '' paste laptop 'KEY LOST'

# The spool is damaged: an octet in the middle of what the machines have read.
alice desktop cspool-sync
mail two
ok "a second message" await comes laptop two
alice vps "python3 -c \"
import glob, os
path = max(glob.glob('spool/[0-9]*'), key=os.path.getsize)
with open(path, 'r+b') as file:
    file.seek(os.path.getsize(path) - 40)
    octet = file.read(1)
    file.seek(-1, 1)
    file.write(bytes([octet[0] ^ 1]))\""
expect "a spool that is damaged is repaired" 0 '*' '*' paste vps 'SPOOL DAMAGED'
expect "and machines go on" 0 '*' '*' paste laptop 'SPOOL DAMAGED' 2
alice laptop 'cspool-fetch --after=0 | cspool-apply --accept' >/dev/null 2>&1
alice laptop cspool-sync
alice desktop 'cspool-fetch --after=0 | cspool-apply --accept' >/dev/null 2>&1
alice desktop cspool-sync
is "$(subjects laptop); $(subjects desktop)" "one two; one two" "with all mail"

# An old backup in place of the spool.
alice vps 'cp -R spool old-copy'
mail three
ok "a third message" await comes laptop three
alice vps 'rm -rf spool && mv old-copy spool'
expect "an old spool" 76 '' '*' alice laptop cspool-sync
expect "the page says where to look" 1 '*the log ends at record*' '' paste laptop 76
expect "accepted" 0 '1 message*' '' paste laptop 'SPOOL RESTORED FROM AN OLD BACKUP'
expect "on each machine" 0 '*' '*' paste desktop 'SPOOL RESTORED FROM AN OLD BACKUP'
is "$(subjects laptop); $(subjects desktop)" "one three two; one three two" "nothing is lost"

# The laptop is stolen.
expect "its ssh key is taken away" 0 '*alice@laptop*alice@desktop*' '' paste vps 'LAPTOP STOLEN'
expect "a new key" 0 '*' '' paste desktop 'LAPTOP STOLEN' 2
expect "the thief reaches nothing" 75 '' '*' alice laptop cspool-sync
mail four
ok "mail comes to the desktop" await comes desktop four
copy_key laptop desktop thief
is "$(alice desktop 'cspool-fetch --after=0 | cspool-open --key=thief 2>/dev/null | grep -c "Subject: one"')" 1 "the thief opens what was there"
is "$(alice desktop 'cspool-fetch --after=0 | cspool-open --key=thief 2>/dev/null | grep -c "Subject: four"')" 0 "and nothing new"

# A new laptop.
alice laptop 'rm -rf .cspool .ssh/id_ed25519*; ssh-keygen -q -t ed25519 -N "" -C alice@laptop -f .ssh/id_ed25519'
alice laptop 'cat .ssh/id_ed25519.pub' >allowed
for name in vps new desktop; do alice $name 'cat >>.ssh/authorized_keys' <allowed; done
copy_key desktop laptop key
expect "a new laptop" 0 '*' '*' paste laptop 'LAPTOP BROKEN'
is "$(subjects laptop)" "four one three two" "has all mail"

# The mail host is broken into: its key is changed.
alice vps 'cp -R .cspool thief'
expect "the old home goes" 0 '' '' paste vps 'MAIL HOST BROKEN INTO'
expect "trusted in place of the old one" 0 '*The test message is here*' '*' paste laptop 'MAIL HOST BROKEN INTO' 2
alice vps "printf 'Subject: forged\n\nx\n' | CSPOOL_HOME=thief cspool-seal | cspool-append spool"
expect "what the old key signs is set aside" 65 '' '*not trusted*' alice laptop cspool-sync

# Only a backup is left: the spool and all machines are gone.
alice laptop 'rm -r backup; cp .cspool/key key; cspool-fetch --after=0 >backup; mv .cspool lost'
alice vps 'mv spool lost-spool'
expect "a backup alone" 0 '*' '*' paste laptop 'ONLY A BACKUP IS LEFT'
is "$(subjects laptop)" "four one three two" "is all that is needed"
mail five
ok "and mail goes on" await comes laptop five

# The spool host is gone.
alice desktop 'cspool-fetch --after=0 | cspool-apply --accept' >/dev/null 2>&1
alice desktop cspool-sync 2>/dev/null
alice vps 'mv spool gone'
expect "a new spool host" 0 '*' '*' paste laptop 'SPOOL HOST GONE'
expect "for the other machine too" 0 '*' '*' paste desktop 'SPOOL HOST GONE' 2
expect "and for the mail" 0 '*The test message is here*' '*' paste laptop 'SPOOL HOST GONE' 3
mail six new
ok "which comes to all" await comes desktop six
is "$(subjects desktop)" "five four one six three two" "with all that was there"

# No copy of the key is left.
alice laptop 'cspool-sync; rm .cspool/key'
expect "no key at all: the mail is taken out" 0 '*' '*' paste laptop 'KEY LOST' 2
expect "not twice" 1 '' '' paste laptop 'KEY LOST' 2
page cspool-recovery.7 'KEY LOST' 3 | sed 's/vps/new/g' >block
expect "and set up anew" 0 '*The test message is here*' '*' alice laptop "$(cat block)"
is "$(subjects laptop)" "five four one six three two" "a machine with the mail begins anew"
mail seven new
ok "and mail goes on" await comes laptop seven

for name in vps new; do stop_postfix $name; done
done_testing
