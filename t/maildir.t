#!/bin/sh
# Programs that keep a Maildir and a server the same: all mail goes up from one, and comes down on another machine,
# octet for octet and with its flags. On the corpus, where there is one.
. "$(dirname "$0")/tap.sh"
make_homes

# A Maildir with real mail, in which every third message has been read and every seventh flagged.
mkdir -p up up/cur up/new up/tmp
number=0
find "${CSPOOL_CORPUS:-$here/mail}" -name '*.eml' | sort >files
while read -r file; do
	grep -q '^.\{0,1\}$' "$file" || continue # mbsync takes none without the empty line behind the header
	number=$((number + 1))
	flags=
	[ $((number % 7)) -ne 0 ] || flags=F
	[ $((number % 3)) -ne 0 ] || flags=${flags}S
	# A Maildir has no mbox lines, and line ends of its own.
	sed '1{/^From /d}' "$file" | tr -d '\r' >"up/cur/$number.example:2,$flags"
done <files

# contents MAILDIR: digest and flags of each message.
contents() {
	find "$1" -path '*/cur/*' -o -path '*/new/*' | while read -r file; do
		case $file in
		*:2,*) flags=${file##*:2,} ;;
		*) flags= ;;
		esac
		# A mark that mbsync leaves in what it writes.
		echo "$(sed '/^X-TUID: /d' "$file" | sha256sum) $flags"
	done | sort
}

if command -v mbsync >/dev/null; then
	cat >mbsyncrc <<-EOF
		IMAPStore there
		Tunnel "cspool-imapd --preauth"

		MaildirStore up
		Inbox $scratch/up

		MaildirStore down
		Inbox $scratch/down

		Channel up
		Far :there:
		Near :up:
		Sync All

		Channel down
		Far :there:
		Near :down:
		Sync All
	EOF
	expect "mbsync pushes $number messages" 0 '*' '*' on laptop mbsync -q -c mbsyncrc up
	on laptop sync_home
	on desktop sync_home
	mkdir -p down/cur down/new down/tmp
	expect "and pulls them on the other machine" 0 '*' '*' on desktop mbsync -q -c mbsyncrc down
	contents up >up.contents
	contents down >down.contents
	ok "all are the same, and so are their flags" cmp up.contents down.contents
	is "$(wc -l <down.contents)" "$number" "and none is missing"
	find down -type f ! -name '.*' >before
	expect "again nothing happens" 0 '*' '*' on desktop mbsync -q -c mbsyncrc down
	find down -type f ! -name '.*' >after
	ok "to the Maildir" cmp before after
else
	[ -z "${CSPOOL_NO_SKIP:-}" ] || ok "mbsync must not be skipped" false
	echo "# mbsync: skipped, not installed"
fi

if command -v offlineimap >/dev/null; then
	cat >offlineimaprc <<-EOF
		[general]
		accounts = alice
		metadata = $scratch/offlineimap
		ui = quiet
		[Account alice]
		localrepository = here
		remoterepository = there
		[Repository here]
		type = Maildir
		localfolders = $scratch/offline
		sync_deletes = yes
		[Repository there]
		type = IMAP
		preauthtunnel = cspool-imapd --preauth
		remoteuser = alice
		folderfilter = lambda name: name in ('INBOX', 'Written')
	EOF
	expect "offlineimap pulls them" 0 '*' '*' on desktop offlineimap -c offlineimaprc
	# It writes what it takes for defects in its own way.
	is "$(contents offline/INBOX | wc -l)" "$number" "all are there"
	rm "$(find offline/INBOX -name '*:2,' | head -1)"
	one=$(find offline/INBOX -name '*:2,' | head -1)
	mv "$one" "$(dirname "$one")/$(basename "$one")FRS"
	mkdir -p offline/Written/cur offline/Written/new offline/Written/tmp
	printf 'Subject: written here\n\nFor a new folder.\n' >offline/Written/new/1.2.example
	expect "it pushes a deletion, flags, and a message in a new folder" 0 '' '*' on desktop offlineimap -c offlineimaprc
	is "$(on desktop count_messages)" $((number - 1)) "the message is gone"
	ok "the flags are there" matches "$(on desktop imap 'a SELECT INBOX' 'b SEARCH ANSWERED FLAGGED SEEN')" '*SEARCH [0-9]*'
	ok "and so is the new one" matches "$(on desktop imap 'a STATUS Written (MESSAGES)')" '*(MESSAGES 1)*'
else
	[ -z "${CSPOOL_NO_SKIP:-}" ] || ok "offlineimap must not be skipped" false
	echo "# offlineimap: skipped, not installed"
fi
done_testing
