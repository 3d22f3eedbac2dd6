#!/bin/sh
. "$(dirname "$0")/tap.sh"
spool=$HOME/spool
mkdir fake
printf '#!/bin/sh\nshift; sh -c "$1"\n' >fake/ssh
chmod +x fake/ssh

expect "the first machine" 0 "*\$ cspool-mkspool $spool*\$ cspool-keygen *\$ cspool-sync*cspool-sync --quiet --checkpoint*set folder=*cspool-setup --mail-host=*" '' \
	cspool-setup "$spool"
is "$(stat -c %a "$HOME/.cspool" "$HOME/.cspool/key" | xargs)" "700 600" "is for its owner only"
expect "is set up" 0 '*log        record 0*' '' cspool-status
before=$(cksum "$HOME/.cspool/key")
expect "once more changes nothing" 0 '*' '' cspool-setup "$spool"
is "$(grep '^\$ ' out)" '$ cspool-sync' "and shows nothing that was there"
is "$(cksum "$HOME/.cspool/key")" "$before" "not the key"
mv "$HOME/.cspool/key.pub" public
expect "a public key that is missing" 0 '*' '' cspool-setup "$spool"
ok "is written again" cmp -s public "$HOME/.cspool/key.pub"
expect "not for another spool" 78 '*' 'cspool-setup: */spool: names another spool: *' cspool-setup "$HOME/elsewhere"

expect "a name with a dot" 64 '' 'cspool-setup: vps.example.org: did you mean vps.example.org: (a host), *' \
	on dot cspool-setup vps.example.org
ok "nothing is made" test ! -e "$HOME/dot"
mkdir dotted.directory
expect "a directory with one" 0 '*$ cspool-mkspool */dotted.directory/*' '' on dot cspool-setup dotted.directory/spool
expect "a locked key: what crontab needs" 0 '*set CSPOOL_PASSPHRASE_COMMAND*' '' \
	on locked env CSPOOL_PASSPHRASE_COMMAND='echo secret' cspool-setup --passphrase "$HOME/locked-spool"
expect "a test without a mail host" 64 '' 'cspool-setup: --test: which mail host is not known: *' cspool-setup --test
expect "a spool that the mail host cannot reach" 64 '' "*$spool: a directory here, which *" \
	env PATH="$scratch/fake:$PATH" cspool-setup --mail-host=vps

# The mail host, by hand
mkdir -m 700 "$HOME/mailhost"
cp "$HOME/.cspool/key.pub" "$HOME/mailhost/recipient"
cspool-keygen "$HOME/mailhost/key"
printf 'Subject: one\n\n1\n' | on mailhost pipe "cspool-seal | cspool-append $spool"
cspool-trust "$HOME/mailhost/key.pub"
expect "mail comes" 0 '' '' cspool-sync
is "$(count_messages)" 1 "to the first machine"

expect "another machine" 0 '*install -m 600 *' '' on two cspool-setup --key="$HOME/.cspool/key" "$spool"
is "$(on two count_messages)" 1 "has the mail"
is "$(cat "$HOME/two/key.pub")" "$(cat "$HOME/.cspool/key.pub")" "and the public key"
expect "a new key is not for a spool with mail" 73 '*' 'cspool-setup: *: a spool with mail in it: *' on three cspool-setup "$spool"
ok "none is made" test ! -e "$HOME/three/key"
cspool-keygen stranger
expect "no key is replaced" 78 '*' 'cspool-setup: */key: another key than stranger' on two cspool-setup --key=stranger "$spool"
expect "a key that opens nothing there" 78 '*' 'cspool-setup: stranger: opens nothing in *' \
	on seven cspool-setup --key=stranger "$spool"
expect "can be mended" 0 '*' '' on seven cspool-setup --key="$HOME/.cspool/key" "$spool"
expect "a spool that is misspelt" 75 '*' '*' on eight cspool-setup --key="$HOME/.cspool/key" "$HOME/missspelt"
expect "can be mended too" 0 '*' '' on eight cspool-setup --key="$HOME/.cspool/key" "$spool"
is "$(on eight count_messages)" 1 "and has all mail then"
expect "no such key" 66 '*' 'cspool-setup: none: no such file or directory' on four cspool-setup --key=none "$spool"
expect "a host that is away" 75 '*' 'cspool-setup: *' on five cspool-setup nowhere.invalid:spool
ok "leaves no key" test ! -e "$HOME/five/key"
expect "a home that others can read" 78 '*' 'cspool-setup: *: accessible to others: *' \
	sh -c 'chmod 755 "$HOME/two"; CSPOOL_HOME=$HOME/two cspool-setup "$HOME/spool"'

# What is shown can be done by hand.
on six cspool-setup "$HOME/spool-six" | sed -n 's/^\$ //p' >steps
rm -rf "$HOME/six" "$HOME/spool-six"
expect "the steps as they are shown" 0 '' '' on six sh -e steps
expect "give the same" 0 '*log        record 0*' '' on six cspool-status

done_testing
