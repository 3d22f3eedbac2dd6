#!/bin/sh
. "$(dirname "$0")/tap.sh"

expect "no key without a name" 64 '' 'cspool-keygen: usage: *' cspool-keygen
expect "no passphrase" 78 '' 'cspool-keygen: key: CSPOOL_PASSPHRASE_COMMAND gave an empty passphrase' \
	env CSPOOL_PASSPHRASE_COMMAND=true cspool-keygen --passphrase key
expect "a comment in no charset" 0 '' '' cspool-keygen --comment="$(printf 'caf\351')" odd
expect "no directory" 73 '' 'cspool-keygen: none/key: no such file or directory' cspool-keygen none/key
expect "makes a key" 0 '' '' cspool-keygen --comment='alice@laptop' key
is "$(stat -c %a key key.pub | tr '\n' ' ')" "600 644 " "the secret is for its owner only"
expect "the public one says whose it is" 0 'cspool-key-1 * alice@laptop' '' cat key.pub
expect "never overwrites" 73 '' 'cspool-keygen: key: file exists' cspool-keygen key
mv key kept
expect "nor the public one" 73 '' 'cspool-keygen: key.pub: file exists' cspool-keygen key
ok "and leaves nothing behind" test ! -e key

# Passphrases
export CSPOOL_PASSPHRASE_COMMAND='echo correct horse'
expect "locks a key" 0 '' '' cspool-keygen --passphrase locked
expect "which says so" 0 'cspool-locked-key-1 *' '' cat locked
expect "opens it" 0 '*' '' pipe 'echo mail | cspool-seal --from=locked --to=locked.pub'
CSPOOL_PASSPHRASE_COMMAND='echo wrong'
expect "not with another passphrase" 78 '' 'cspool-seal: locked: wrong passphrase' \
	pipe 'echo mail | cspool-seal --from=locked --to=locked.pub'
CSPOOL_PASSPHRASE_COMMAND='exit 3'
expect "a command that fails is said" 78 '' 'cspool-seal: locked: CSPOOL_PASSPHRASE_COMMAND failed with status 3' \
	pipe 'echo mail | cspool-seal --from=locked --to=locked.pub'
unset CSPOOL_PASSPHRASE_COMMAND
expect "no terminal to ask on" 78 '' 'cspool-seal: a passphrase is needed, and there is no terminal to ask on' \
	setsid sh -c 'echo mail | cspool-seal --from=locked --to=locked.pub'

printf 'open sesame\nopen sesame\n' >answers
expect "a passphrase is asked for twice on the terminal" 0 '' '' typed cspool-keygen --passphrase asked <answers
echo mail >message
echo 'open sesame' >answers
expect "and then to use the key" 0 '' '' \
	typed sh -c 'cspool-seal --from=asked --to=asked.pub <message >stream' <answers
ok "for a whole stream" test "$(wc -c <stream)" -gt 1000
: >nothing
expect "no answer is no passphrase" 78 '' '' typed cspool-keygen --passphrase never <nothing
printf 'one\nanother\n' >answers
expect "two that differ are none" 78 '' '' typed cspool-keygen --passphrase never <answers
ok "and no key is made" test ! -e never

# What is wrong with a key is said, and mail is not sealed to a damaged one.
chmod 644 kept
expect "a secret that others can read" 78 '' 'cspool-seal: kept: readable by others than its owner: chmod 600 kept' \
	pipe 'echo mail | cspool-seal --from=kept --to=key.pub'
chmod 600 kept
sed 's/^cspool-key-1 A/cspool-key-1 B/; t; s/^cspool-key-1 ./cspool-key-1 A/' key.pub >typo.pub
expect "a mistyped public key" 78 '' 'cspool-seal: typo.pub: not a public key of cspool, or damaged' \
	pipe 'echo mail | cspool-seal --from=kept --to=typo.pub'
expect "a secret key where the public one belongs" 78 '' 'cspool-seal: kept: a secret key where *' \
	pipe 'echo mail | cspool-seal --from=kept --to=kept'
expect "a public key where the secret one belongs" 78 '' 'cspool-seal: key.pub: *' \
	pipe 'chmod 600 key.pub; echo mail | cspool-seal --from=key.pub --to=key.pub'
expect "no key at all" 66 '' 'cspool-seal: none: no such file or directory' \
	pipe 'echo mail | cspool-seal --from=none --to=key.pub'

# A mail host with its own key as recipient: only it could read the mail.
mkdir -m 700 "$HOME/host"
cspool-keygen "$HOME/host/key"
cp "$HOME/host/key.pub" "$HOME/host/recipient"
expect "a recipient that is the key of the host" 78 '' "cspool-seal: */recipient: the key of this host: put the user's key.pub there" \
	on host pipe 'echo x | cspool-seal >sealed'
expect "is what was asked for with --to" 0 '' '' on host pipe 'echo x | cspool-seal --to "$CSPOOL_HOME/key.pub" >sealed'

done_testing
