#!/bin/sh
# cspool-shell as the forced command of keys, with a real sshd; connections shared by ControlMaster; what ssh refuses.
. "$(dirname "$0")/tap.sh"
. "$here/sshd.sh"
start_sshd
make_homes

# key NAME COMMAND: a key that may do only this, and a host in the configuration of ssh that uses it.
key() {
	ssh-keygen -q -t ed25519 -N '' -f "ssh/$1"
	# sshd starts it in the home that passwd(5) says, not in that of the test.
	echo "restrict,command=\"cd $HOME && exec $2\" $(cat "ssh/$1.pub")" >>ssh/authorized_keys
	sed "s|^Host .*|Host $1|; s|ssh/id|ssh/$1|" ssh/config.one >>ssh/config
}
cp ssh/config ssh/config.one
key appends "cspool-shell --append $HOME/spool"
key fetches "cspool-shell --fetch spool"
key both "cspool-shell --append --fetch spool"
key nothing "cspool-shell spool"
key compacts "cspool-shell --append --fetch --compact --grace=0 spool"
key quota "cspool-shell --append --max-bytes=5000 spool"
ln -s "$HOME/spool" "$HOME/mine"

mail='printf "Subject: one\n\n1\n" | cspool-seal | cspool-append'
expect "as in .forward" 0 '' '' on mailhost pipe 'echo 1 | cspool-seal | ssh appends cspool-append || exit 75'
expect "append to host:" 0 '' '' on mailhost pipe "$mail appends:"
expect "to host:path" 0 '' '' on mailhost pipe "$mail appends:spool"
expect "a link to it is it" 0 '' '' on mailhost pipe "$mail appends:mine"
expect "fetch from host:" 0 '' '' on laptop pipe "cspool-fetch fetches: | cspool-apply"
is "$(on laptop count_messages)" 2 "the mail is there"
for home in laptop desktop; do echo "both:" >"$HOME/$home/spool"; done
on laptop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Flagged)' >/dev/null
expect "both ways" 0 '' '' on laptop cspool-sync

cp "$HOME/laptop/key" other.key
for given in both: both:spool; do
	expect "cspool-setup of $given" 0 '*' '' on "set$given" cspool-setup --key=other.key "$given"
done
expect "and of a first machine, which the spool is not for" 73 '*' "cspool-setup: both:spool: a spool with mail in it: *" \
	on first cspool-setup both:spool

only_fetch='cspool-shell: this key is only for cspool-fetch'
expect "a key for fetching does not append" 77 '' "$only_fetch" on mailhost pipe "$mail fetches:"
expect "nor the other way round" 77 '' 'cspool-shell: this key is only for cspool-append' \
	to_null on laptop cspool-fetch --after=0 appends:
expect "nor one for nothing" 77 '' 'cspool-shell: this key is only for nothing: see --append and --fetch' \
	on mailhost pipe "$mail nothing:"
expect "another spool" 77 '' 'cspool-shell: this key is for another spool, and the path can be left out' \
	to_null cspool-fetch --after=0 fetches:/tmp
expect "no command, and no terminal" 77 '' "*$only_fetch" ssh fetches </dev/null
# shellcheck disable=SC2016,SC2089,SC2090 # they are to be taken as they are
for command in sh 'cspool-fetch; id' 'cspool-fetch && id' '$(cspool-fetch)' 'cspool-seal' '/bin/sh -c id' \
	'cspool-fetch spool `id`' 'cspool-fetch "' "cspool-fetch
id" 'env cspool-fetch' '../bin/cspool-fetch'; do
	expect "no shell: $(echo "$command" | tr '\n' ' ')" 77 '' 'cspool-shell: this key is *' ssh fetches "$command"
done
for option in --db=/etc/passwd --help --version --after=x --after=-1 -a --follow=1 --after; do
	expect "no option $option" 77 '' 'cspool-shell: cspool-fetch: this option is not allowed here' ssh fetches "cspool-fetch $option"
done
expect "no quota of the client's own" 77 '' 'cspool-shell: cspool-append: this option is not allowed here' \
	on mailhost pipe 'echo 1 | cspool-seal | ssh quota cspool-append --max-bytes=999999'
expect "over the quota" 75 '' 'cspool-append: */spool: over its quota: * octets of 5000, and * were to come' \
	on mailhost pipe "head -c 9000 /dev/urandom | cspool-seal | cspool-append quota:"

# Compacting.
expect "a key for appending and fetching does not compact" 77 '' 'cspool-shell: this key is only for cspool-append and cspool-fetch' \
	on laptop pipe 'cspool-checkpoint | cspool-compact'
expect "no grace of the client's own" 77 '' 'cspool-shell: cspool-compact: this option is not allowed here' \
	on laptop pipe 'cspool-checkpoint | ssh compacts cspool-compact --grace=99'
echo "compacts:" >"$HOME/laptop/spool"
expect "one that may does" 0 '' '' on laptop pipe 'cspool-sync; cspool-checkpoint | cspool-compact'
expect "as in the manual" 0 '' '' on laptop pipe 'cspool-sync; cspool-checkpoint | ssh compacts cspool-compact'
expect "and everybody goes on" 0 '' '' on desktop cspool-sync
is "$(on desktop count_messages)" 2 "with all mail"
expect "--grace is said at the far end" 64 '' 'cspool-compact: --grace, --expire: only for a spool in a directory' \
	cspool-compact --grace=5 compacts:
ok "no port is forwarded" sh -c "! ssh -oExitOnForwardFailure=yes -N -R 0:127.0.0.1:1 both"

# A new key line in the configuration is all it takes to share one connection.
{
	printf 'Host both appends\nControlMaster auto\nControlPersist 60\nControlPath %s/master-%%n\n' "$scratch"
	cat ssh/config
} >ssh/config.shared
mv ssh/config.shared ssh/config
expect "sync over one shared connection" 0 '' '' on laptop cspool-sync
expect "and again" 0 '' '' on desktop cspool-sync
ok "which is there" ssh -O check both
on mailhost pipe 'echo 2 | cspool-seal | ssh appends cspool-append' && on laptop cspool-sync
is "$(on laptop count_messages)" 3 "mail comes over it"
ssh -O exit both 2>/dev/null
expect "and without it" 0 '' '' on laptop cspool-sync
ssh -O exit both 2>/dev/null
ssh -O exit appends 2>/dev/null

done_testing
