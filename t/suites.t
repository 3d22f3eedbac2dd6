#!/bin/sh
# The test suites that two IMAP client libraries bring for servers: imapclient's, and Perl's Mail::IMAPClient's
# (from its source package, unpacked in the directory that CSPOOL_IMAPCLIENT_SOURCE names).
. "$(dirname "$0")/tap.sh"
make_homes
echo secret | on laptop cspool-imapd --set-password
CSPOOL_HOME=$HOME/laptop python3 "$here/listen.py" 0 cspool-imapd >port &
pids="$pids $!"
await test -s port

# What fails fails with any server. An ENVELOPE is compared as a sequence, but is none since version 4; MOVE without
# UID calls a method that Python's imaplib does not have. One test counts on a server slower than 10 microseconds.
printf '[DEFAULT]\nhost=127.0.0.1\nport=%s\nusername=alice\npassword=secret\nssl=false\n' "$(cat port)" >ini
python3 -m imapclient.livetest ini >livetest 2>&1
is "$(sed -n -E 's/^(ERROR|FAIL): ([a-zA-Z_]*) .*/\2/p' livetest | grep -v test_small_read_timeout_fail | sort | tr '\n' ' ')" \
	"test_fetch test_fetch test_move " "imapclient's live tests: all but those that cannot pass"
is "$(sed -n 's/^Ran \([0-9]*\) tests .*/\1/p' livetest)" 59 "of all"

if [ -n "${CSPOOL_IMAPCLIENT_SOURCE:-}" ] && perl -MMail::IMAPClient -e 1 2>/dev/null; then
	cp -r "$CSPOOL_IMAPCLIENT_SOURCE/t" .
	printf 'server=127.0.0.1\nport=%s\nuser=alice\npassed=secret\nauthmechanism=LOGIN\nssl=0\n' "$(cat port)" >test.txt
	prove -v t/*.t >suite 2>&1
	# It wants CREATE of a/b not to create a, but RFC 3501 section 6.3.3 does.
	is "$(sed -n 's/^not ok [0-9]* - //p' suite | tr '\n' ,)" \
		"folders() excludes /Noselect mailbox,not selectable (non-mailbox w/inferior)," "Mail::IMAPClient's tests: all but two"
	is "$(sed -n 's/.*, Tests=\([0-9]*\),.*/\1/p' suite)" 227 "of all"
else
	echo "# Mail::IMAPClient: skipped, CSPOOL_IMAPCLIENT_SOURCE is not set, or the module is not installed"
fi

done_testing
