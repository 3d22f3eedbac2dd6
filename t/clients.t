#!/bin/sh
# Mail clients that nobody here wrote read INBOX through the tunnel.
. "$(dirname "$0")/tap.sh"
make_homes
for number in 1 2 3; do
	printf 'From: Bob <bob@example.org>\nTo: alice@example.org\nSubject: message %s\nDate: Tue, 24 Nov 2026 08:0%s:00 +0000\nMessage-ID: <%s@example.org>\n\nText %s.\n' \
		$number $number $number $number | deliver
done
on laptop sync_home
flags() { on "$1" imap 'a SELECT INBOX' 'b FETCH 1:* (FLAGS)' | sed -n 's/^\* [0-9]* FETCH (FLAGS (\(.*\)))$/\1/p' | sed 's/\\Recent *//' | tr '\n' ','; }

if command -v mbsync >/dev/null; then
	cat >mbsyncrc <<-EOF
		IMAPStore there
		Tunnel "cspool-imapd --preauth"

		MaildirStore here
		Path $scratch/Mail/
		Inbox $scratch/Mail/INBOX

		Channel all
		Far :there:
		Near :here:
		Patterns INBOX
		Create Near
		Expunge Both
		Sync All
	EOF
	mkdir Mail
	expect "mbsync pulls" 0 '*' '*' on laptop mbsync -c mbsyncrc all
	is "$(cat Mail/INBOX/new/* | grep -c '^Subject: message')" 3 "three messages into a Maildir"
	first=$(grep -l 'Subject: message 1' Mail/INBOX/*/*)
	mv "$first" "Mail/INBOX/cur/$(basename "$first" | sed 's/:2,.*//'):2,FS"
	rm -f "$(grep -l 'Subject: message 3' Mail/INBOX/*/*)"
	printf 'Subject: message 4\n\nFrom the Maildir.\n' >Mail/INBOX/new/1.2.example
	expect "mbsync pushes a flag, a deletion and a message" 0 '*' '*' on laptop mbsync -c mbsyncrc all
	is "$(flags laptop)" '\Flagged \Seen,,,' "which the server then has"
	expect "again nothing happens" 0 '*' '*' on laptop mbsync -c mbsyncrc all
	is "$(flags laptop)" '\Flagged \Seen,,,' "and nothing has changed"
else
	[ -z "${CSPOOL_NO_SKIP:-}" ] || ok "mbsync must not be skipped" false
	echo "# mbsync: skipped, not installed"
fi

if command -v neomutt >/dev/null && command -v script >/dev/null; then
	cat >muttrc <<-EOF
		set tunnel="cspool-imapd --preauth" folder="imap://localhost/" spoolfile="imap://localhost/INBOX"
		set header_cache="" confirmappend=no confirmcreate=no copy=no delete=yes quit=yes wait_key=no mark_old=no
		push "<tag-pattern>~A<enter><tag-prefix><copy-message>$scratch/mbox<enter><last-entry><flag-message><quit>"
	EOF
	ok "neomutt reads, copies to an mbox and flags" on laptop timeout 60 \
		script -qec "TERM=xterm neomutt -n -F muttrc" /dev/null
	is "$(grep -c '^Subject: message' mbox)" "$(on laptop count_messages)" "all messages are in the mbox"
	ok "the flag is on the server" matches "$(flags laptop)" '*\\Flagged,'
else
	[ -z "${CSPOOL_NO_SKIP:-}" ] || ok "neomutt must not be skipped" false
	echo "# neomutt: skipped, not installed"
fi

if command -v fetchmail >/dev/null; then
	cat >fetchmailrc <<-EOF
		poll localhost protocol IMAP plugin "cspool-imapd --preauth" auth ssh
		user "alice" sslproto '' mda "cat >>$scratch/fetched" keep fetchall
	EOF
	chmod 600 fetchmailrc
	expect "fetchmail fetches" 0 '*' '*' on laptop fetchmail -f fetchmailrc --pidfile "$scratch/fetchmail.pid" -i ids
	is "$(grep -c '^Subject: message' fetched)" "$(on laptop count_messages)" "all messages"
else
	[ -z "${CSPOOL_NO_SKIP:-}" ] || ok "fetchmail must not be skipped" false
	echo "# fetchmail: skipped, not installed"
fi

# These two want a server to connect to.
echo secret | on laptop cspool-imapd --set-password
CSPOOL_HOME=$HOME/laptop python3 "$here/listen.py" 0 cspool-imapd >port &
pids="$pids $!"
await test -s port

if command -v getmail >/dev/null; then
	mkdir .getmail
	cat >.getmail/getmailrc <<-EOF
		[retriever]
		type = SimpleIMAPRetriever
		server = 127.0.0.1
		port = $(cat port)
		username = alice
		password = secret
		[destination]
		type = MDA_external
		path = /bin/sh
		arguments = ("-c", "cat >>$scratch/got")
		allow_root_commands = true
	EOF
	expect "getmail fetches" 0 '*' '*' getmail --getmaildir="$scratch/.getmail"
	is "$(grep -c '^Subject: message' got)" "$(on laptop count_messages)" "all messages"
else
	[ -z "${CSPOOL_NO_SKIP:-}" ] || ok "getmail must not be skipped" false
	echo "# getmail: skipped, not installed"
fi

if command -v curl >/dev/null; then
	url=imap://alice:secret@127.0.0.1:$(cat port)
	expect "curl lists" 0 '*LIST (*) "/" "INBOX"*' '*' curl -s "$url/"
	expect "curl reads" 0 'From: Bob*Text 2.*' '*' curl -s "$url/INBOX;MAILINDEX=2"
	expect "curl searches" 0 '* SEARCH 2*' '*' curl -s "$url/INBOX?SUBJECT%20%22message%202%22"
	printf 'Subject: from curl\r\n\r\nText.\r\n' >upload
	expect "curl appends" 0 '' '*' curl -s -T upload "$url/INBOX"
	expect "and reads that" 0 'Subject: from curl*' '*' curl -s "$url/INBOX;MAILINDEX=$(on laptop count_messages)"
	expect "a wrong password" 67 '' '*' curl -s "imap://alice:wrong@127.0.0.1:$(cat port)/"
else
	[ -z "${CSPOOL_NO_SKIP:-}" ] || ok "curl must not be skipped" false
	echo "# curl: skipped, not installed"
fi

# What was done on the laptop comes to the desktop.
on laptop sync_home
on desktop sync_home
is "$(flags desktop)" "$(flags laptop)" "flags, deletions and messages reach the other machine"

done_testing
