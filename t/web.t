#!/bin/sh
. "$(dirname "$0")/tap.sh"
. "$here/nginx.sh"
mkdir "$HOME/www" nginx
echo 'alice:{PLAIN}secret' >nginx/passwords
start_nginx <<EOF
server {
	listen 127.0.0.1:$web_port;
	root $HOME/www;
	location /noranges/ { alias $HOME/www/; max_ranges 0; }
	location /elsewhere/ { return 301 http://example.org/; }
	location /broken/ { return 503; }
	location /cached/ { alias $HOME/www/; add_header Age 300; }
	location /private/ {
		alias $HOME/www/;
		auth_basic spool;
		auth_basic_user_file $scratch/nginx/passwords;
	}
}
EOF
make_homes
mv "$HOME/spool" "$HOME/www/alice"
echo "$HOME/www/alice" >"$HOME/mailhost/spool"
for home in laptop desktop; do
	echo "$url/alice/" >"$HOME/$home/spool"
	echo "$HOME/www/alice" >"$HOME/$home/append"
done
printf 'Subject: one\n\n1\n' | deliver

expect "fetch from a web server" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 1 "the message is there"
expect "the same stream as from the directory" 0 '' '' \
	pipe "cspool-fetch --after=1 $url/alice >web; cspool-fetch --after=1 ~/www/alice | cmp - web"

head -c 300000 /dev/urandom | base64 | deliver
on laptop pipe 'cspool-fetch | cspool-apply'
printf 'Subject: three\n\n3\n' | deliver
: >"$access_log"
on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 3 "what is new comes"
ok "and only that" awk '{ sent += $3 } END { exit !(sent < 5000) }' "$access_log"
: >"$access_log"
expect "nothing new" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(cut -d' ' -f1,2 "$access_log")" "/alice/head 200" "is one request"
ok "a small one" awk '{ exit !($3 < 1000) }' "$access_log"

on laptop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Flagged)' >out
expect "changes go where the home says" 0 '' '' on laptop pipe 'cspool-outbox | cspool-append'
expect "and come over the web" 0 '' '' on desktop pipe 'cspool-fetch | cspool-apply'
on desktop imap 'a SELECT INBOX' 'b FETCH 1 (FLAGS)' >out
ok "to the other machine" grep -q '^\* 1 FETCH (FLAGS (.*\\Flagged' out

expect "nobody appends to a web server of files" 75 "" "cspool-append: $url/alice: the server answers 403: Forbidden" \
	pipe "cspool-append $url/alice <web"
expect "no spool there" 75 '' "cspool-fetch: $url/nothing: no spool here *" to_null cspool-fetch --after=0 "$url/nothing"
expect "a server without ranges" 75 '' "cspool-fetch: $url/noranges/alice/*.log: the server does not serve ranges" \
	to_null cspool-fetch --after=0 "$url/noranges/alice"
expect "a redirection" 75 '' "cspool-fetch: $url/elsewhere/head: the server sends us elsewhere (http://example.org/)" \
	to_null cspool-fetch --after=0 "$url/elsewhere"
expect "an old copy in a cache" 75 '' "cspool-fetch: $url/cached/alice/head: an old copy from a cache, *" \
	to_null cspool-fetch --after=0 "$url/cached/alice"
expect "a server in trouble" 75 '' "cspool-fetch: $url/broken/head: the server answers 503 *" \
	to_null cspool-fetch --after=0 "$url/broken"
nobody=http://127.0.0.1:$(free_port)
expect "no server" 75 '' "cspool-fetch: $nobody/x/head: connection refused" to_null cspool-fetch --after=0 "$nobody/x"
expect "a URL that is none" 64 '' "cspool-fetch: http://: not the URL of a spool" cspool-fetch --after=0 http://
expect "a password is needed" 75 '' "cspool-fetch: $url/private/alice/head: the server refuses us (401): see ~/.netrc" \
	to_null cspool-fetch --after=0 "$url/private/alice"
echo 'machine 127.0.0.1 login alice password secret' >"$HOME/.netrc"
chmod 600 "$HOME/.netrc"
expect "and is that of ~/.netrc" 0 '' '' to_null cspool-fetch --after=0 "$url/private/alice"
rm "$HOME/.netrc"

# Many segments come over one connection, and nothing is lost when the server dies and comes back.
mkdir many
python3 -c "
import sys
sys.path.insert(0, sys.argv[1])
from cspool.spool.append import Spool
for number in range(30):
    Spool(sys.argv[2]).append([bytes([number]) * 5000], rotate=1000)" "$top/lib" "$HOME/www/alice"
: >"$access_log"
cspool-fetch --after=0 "$url/alice" >web
ok "many segments" test "$(grep -c '[.]log' "$access_log")" -ge 30
is "$(cut -d' ' -f4 "$access_log" | sort -u | wc -l)" 1 "come over one connection"
expect "and are the same" 0 '' '' pipe "cspool-fetch --after=0 ~/www/alice | cmp - web"
kill $nginx_pid
wait $nginx_pid
expect "while the server is away" 75 '' 'cspool-fetch: *: connection refused' on laptop cspool-sync
cp nginx/servers again
start_nginx <again
expect "and afterwards all that is no mail is set aside" 65 '' 'cspool-apply: * set aside: *' on laptop cspool-sync

done_testing
