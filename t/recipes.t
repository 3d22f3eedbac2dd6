#!/bin/sh
# cspool-recipes(7), pasted.
. "$(dirname "$0")/tap.sh"
. "$here/nginx.sh"
need jq
make_homes
cp -R "$HOME/laptop" "$HOME/.cspool"
# recipe SECTION [N]: a block of the page, with the hosts of this test.
recipe() {
	page cspool-recipes.7 "$@" | sed "s|[a-z]*@vps.example.org:/*|$HOME/|; s|home/alice/||; s|https://www.example.org|$url|"
}

recipe 'WHO WRITES' >watch
sh watch >subjects 2>watch.err &
pids="$pids $!"
await pgrep -f "cspool-fetch --follow --after=1"
printf 'From: x\nSubject: first\n\nSubject: no\n' | deliver
printf 'Subject: second\n\n2\n' | deliver
ok "a watcher prints the subjects as they come" await grep -q second subjects
is "$(cat subjects)" "first
second" "each once"
pkill -f "cspool-fetch --follow --after=1"

printf 'From: bob@example.org\nSubject: weather\n\n?\n' | on mailhost pipe 'cspool-seal --mailbox=bot | cspool-append'
recipe 'A BOT' >bot.py
is "$(recipe 'A BOT' 2)" "cspool-sync --follow --exec='python3 bot.py'" "the line that runs the bot"
expect "a bot answers" 0 'to bob@example.org about weather' '' sh -c "$(recipe 'A BOT' 2 | sed 's/--follow //')"
printf 'Subject: other\n\n?\n' | deliver
expect "once" 0 '' '' sh -c "$(recipe 'A BOT' 2 | sed 's/--follow //')"

mkdir stick
expect "a stick is written" 0 '' '' sh -e -c "$(recipe 'ON A STICK')"
expect "and read where no network is" 0 '' '' on desktop sh -e -c "$(recipe 'ON A STICK' 2)"
is "$(on desktop count_messages)" 3 "with all mail"
on desktop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Flagged)' >/dev/null
expect "with changes" 0 '' '' on desktop sh -e -c "$(recipe 'ON A STICK' 2)"
expect "that are carried back" 0 '' '' sh -e -c "$(recipe 'ON A STICK' 3)"
cspool-sync
ok "and have effect" pipe "printf '%s\r\n' 'a SELECT INBOX' 'b FETCH 1 FLAGS' 'c LOGOUT' | cspool-imapd --preauth | grep -q Flagged"

mkdir -p Photos/cur Photos/new Photos/tmp
printf 'Subject: summer\n\nx\n' >Photos/cur/1:2,S
recipe 'FOR TWO PEOPLE' >one
recipe 'FOR TWO PEOPLE' 2 | sed 's/-family"/-family2"/' >two
expect "an archive for two" 0 '*' '' sh -e one
cp "$HOME/.cspool-family/key" family.key
expect "is read by the other" 0 '*' '' sh -e two
is "$(CSPOOL_HOME=$HOME/.cspool-family2 count_messages)" 1 "too"

recipe 'FROM A WEB SERVER' >publish
(cd "$HOME" && sh -e "$scratch/publish")
echo "server { listen 127.0.0.1:$web_port; root $HOME/www; }" >servers
start_nginx <servers
expect "a spool on a web server" 0 '' '' sh -e -c "$(recipe 'FROM A WEB SERVER' 2)"
printf 'Subject: third\n\n3\n' | deliver
(cd "$HOME" && sh -e "$scratch/publish")
expect "published again" 0 '' '' cspool-sync
is "$(count_messages)" 4 "has what is new"

mkdir bin
for name in pass secret-tool security; do
	printf '#!/bin/sh\necho "secret of %s"\n' $name >bin/$name
	chmod +x bin/$name
	line=$(recipe 'A PASSPHRASE FROM THE KEYCHAIN' | grep "'$name ")
	expect "a passphrase from $name" 0 '' '' env PATH="$scratch/bin:$PATH" sh -c "$line; cspool-keygen --passphrase key-$name"
	expect "which opens the key" 0 '' '' env PATH="$scratch/bin:$PATH" \
		sh -c "$line; echo x | cspool-seal --from=key-$name --to=key-$name.pub >sealed"
done

done_testing
