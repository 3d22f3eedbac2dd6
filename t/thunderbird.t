#!/bin/sh
# Thunderbird without a screen: it fetches, and its filters flag one message and move another. By hand, with
# CSPOOL_THUNDERBIRD=1: on a busy machine it may list the mailboxes at its first start, and then wait for ever.
. "$(dirname "$0")/tap.sh"
if [ -z "${CSPOOL_THUNDERBIRD:-}" ]; then
	echo "1..0 # SKIP by hand, with CSPOOL_THUNDERBIRD=1"
	exit 0
fi
need thunderbird
make_homes
for number in 1 2 3; do
	printf 'From: Bob <bob@example.org>\nSubject: message %s\nMessage-ID: <%s@example.org>\n\nText %s.\n' $number $number $number | deliver
done
on laptop sync_home

# Without a password: --preauth behind a pipe, since it is refused on the socket itself.
CSPOOL_HOME=$HOME/laptop python3 "$here/listen.py" 0 sh -c 'cat | cspool-imapd --preauth | cat' >port &
pids="$pids $!"
await test -s port
mkdir -p profile/ImapMail/127.0.0.1
cat >profile/user.js <<EOF
user_pref("mail.accountmanager.accounts", "account1,account2");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.accountmanager.localfoldersserver", "server2");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account2.server", "server2");
user_pref("mail.identity.id1.useremail", "alice@example.org");
user_pref("mail.identity.id1.fullName", "Alice");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.server.server1.type", "imap");
user_pref("mail.server.server1.hostname", "127.0.0.1");
user_pref("mail.server.server1.directory", "$scratch/profile/ImapMail/127.0.0.1");
user_pref("mail.server.server1.directory-rel", "[ProfD]ImapMail/127.0.0.1");
user_pref("mail.server.server1.port", $(cat port));
user_pref("mail.server.server1.userName", "alice");
user_pref("mail.server.server1.name", "alice");
user_pref("mail.server.server1.socketType", 0);
user_pref("mail.server.server1.authMethod", 3);
user_pref("mail.server.server1.login_at_startup", true);
user_pref("mail.server.server1.check_new_mail", true);
user_pref("mail.server.server1.offline_download", true);
user_pref("mail.server.server1.storeContractID", "@mozilla.org/msgstore/maildirstore;1");
user_pref("mail.server.server2.type", "none");
user_pref("mail.server.server2.hostname", "Local Folders");
user_pref("mail.server.server2.userName", "nobody");
user_pref("mail.server.server2.name", "Local Folders");
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("datareporting.policy.dataSubmissionPolicyBypassNotification", true);
user_pref("app.update.enabled", false);
EOF
cat >profile/ImapMail/127.0.0.1/msgFilterRules.dat <<EOF
version="9"
logging="no"
name="flag"
enabled="yes"
type="17"
action="Mark flagged"
condition="AND (subject,contains,message 2)"
name="file"
enabled="yes"
type="17"
action="Move to folder"
actionValue="imap://alice@127.0.0.1/Archive"
condition="AND (subject,contains,message 3)"
EOF
thunderbird --headless --profile "$scratch/profile" >thunderbird.log 2>&1 &
pids="$pids $!"

here_are() { [ "$(find profile/ImapMail/127.0.0.1 -path "*/$1/cur/*" | wc -l)" = "$2" ]; }
status_is() { on laptop imap "a STATUS $1 (MESSAGES UNSEEN)" | grep -q "MESSAGES $2"; }
flagged() { on laptop imap 'a SELECT INBOX' 'b SEARCH FLAGGED SUBJECT "message 2"' | grep -q 'SEARCH [0-9]'; }
ok "it moves a message to Archive, which is made for it" await status_is Archive 1
ok "the others are still in INBOX" await status_is INBOX 2
ok "it flags one" await flagged
ok "it keeps copies of INBOX" await here_are INBOX 2
ok "and of Archive" await here_are Archive 1
# What comes later reaches it, for it idles.
printf 'From: Bob <bob@example.org>\nSubject: message 4\n\nText 4.\n' | deliver
on laptop sync_home
ok "new mail reaches it" await here_are INBOX 3
ok "as it was delivered" grep -rq 'Text 4' profile/ImapMail/127.0.0.1/INBOX/cur
done_testing
