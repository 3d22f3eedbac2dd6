#!/bin/sh
# Nothing secret is in arguments, environments or what is said; files are for their owner; keys that others can read are refused.
. "$(dirname "$0")/tap.sh"
need strace
strace -o /dev/null true 2>/dev/null || skip_all "strace may not trace here"
umask 022
make_homes

is "$(find "$HOME"/laptop "$HOME"/desktop "$HOME"/mailhost -perm /077 ! -name '*.pub' ! -name spool ! -name recipient ! -name '*.lock')" "" \
	"homes, keys and databases are for their owner, whatever umask says"
on laptop sh -c 'echo imap-secret | cspool-imapd --set-password'
is "$(stat -c %a "$HOME/laptop/imap.passwd")" 600 "the password's hash too"
for mode in 640 604; do
	chmod $mode "$HOME/laptop/key"
	expect "a key of mode $mode is refused" 78 '' 'cspool-*: */key: readable by others than its owner: chmod 600 *' on laptop cspool-sync
done
chmod 600 "$HOME/laptop/key"

# All that is started by a sync with a locked key, over ssh, with its arguments and environments.
CSPOOL_PASSPHRASE_COMMAND='echo very-secret'
export CSPOOL_PASSPHRASE_COMMAND
cspool-keygen --passphrase locked
on laptop cspool-rekey "$scratch/locked" >rekeyed
unset CSPOOL_PASSPHRASE_COMMAND
printf 'Subject: confidential\n\nbody-of-the-mail\n' | deliver
echo very-secret | on laptop typed strace -f -v -s 100000 -e trace=execve,write -o started cspool-sync >said 2>&1
ok "a sync with a passphrase from the terminal" sh -c "cspool-status --db=$HOME/laptop/mail.db --offline | grep -q 'INBOX: 1'"
grep execve started >commands
ok "starts other tools" grep -q cspool-apply commands
seed=$(cut -d' ' -f2 "$HOME/desktop/key")
for secret in very-secret "$seed" confidential body-of-the-mail; do
	is "$(grep -c -e "$secret" commands)" 0 "$secret is in no argument and no environment"
	is "$(tr -d '\r' <said | grep -v '^very-secret$' | grep -c -e "$secret")" 0 "nor is it said"
done

# What goes wrong is said without what it was about.
CSPOOL_HOME=$HOME/mailhost cspool-seal <"$HOME/desktop/key" >stream 2>said || true
head -c 300 stream >part
for command in "cspool-append $HOME/spool" "cspool-apply --db=new.db --key=$HOME/desktop/key"; do
	sh -c "$command" <part >>said 2>&1
	sh -c "$command" <"$HOME/desktop/key" >>said 2>&1
done
expect "a key where another thing belongs" 78 '' 'cspool-seal: *: a secret key where the public one (.pub) belongs' \
	sh -c "echo x | cspool-seal --from=$HOME/desktop/key --to=$HOME/desktop/key"
cat err >>said
is "$(grep -c "$seed" said)" 0 "no key is said"

done_testing
