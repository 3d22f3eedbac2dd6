#!/bin/sh
# cspool-httpd from outside: with our tools, with curl, killed.
. "$(dirname "$0")/tap.sh"
need curl
make_homes
root=$HOME/root
mkdir "$root"
mv "$HOME/spool" "$root/alice"

# serve OPTIONS: start a server; sets server, url and port.
serve() {
	port=$(free_port)
	url=http://127.0.0.1:$port/alice
	cspool-httpd --listen=127.0.0.1:"$port" "$@" "$root" 2>access.log &
	server=$!
	pids="$pids $server"
	await curl -s "$url"
}
# netrc TOKEN: the token that our tools and curl use.
netrc() {
	echo "machine 127.0.0.1 login alice password $1" >"$HOME/.netrc"
	chmod 600 "$HOME/.netrc"
}
get() { curl -s -n --max-time 20 "$@"; }

expect "no such directory" 66 '' 'cspool-httpd: */none: no such directory' cspool-httpd none
expect "an address that is none" 64 '' 'cspool-httpd: --listen=x: no such address' cspool-httpd --listen=x .
expect "a number that is none" 64 '' 'cspool-httpd: --connections=x: not a number' cspool-httpd --connections=x .
expect "a token for no spool" 66 '' 'cspool-httpd: bob: no spool of this name *' \
	cspool-httpd --new-token=fetch "$root" bob
expect "a right that is none" 64 '' 'cspool-httpd: --new-token=x: *' cspool-httpd --new-token=x "$root" alice
both=$(cspool-httpd --new-token=append,fetch "$root" alice)
append=$(cspool-httpd --new-token=append "$root" alice)
fetch=$(cspool-httpd --new-token=fetch "$root" alice)
is "$(stat -c %a "$root/tokens")" 600 "tokens are for the server alone"
ok "and not in its file" sh -c "! grep -q -e '$append' -e '$fetch' '$root/tokens'"

serve
for home in laptop desktop mailhost; do echo "$url" >"$HOME/$home/spool"; done
netrc "$append"
printf 'Subject: one\n\n1\n' >message
expect "append" 0 '' '' on mailhost pipe 'cspool-seal <message | cspool-append'
expect "with a token that is not for fetching" 75 '' "cspool-fetch: $url/head: the server refuses us (403): see ~/.netrc" \
	to_null on laptop cspool-fetch
netrc "$fetch"
expect "fetch" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 1 "the message is there"
expect "with a token that is not for appending" 75 '' "cspool-append: $url: the server answers 403: this token does not allow to append" \
	on mailhost pipe 'cspool-seal <message | cspool-append'
netrc wrong
expect "with no token that is known" 75 '' "cspool-append: $url/: the server refuses us (401): see ~/.netrc" \
	on mailhost pipe 'cspool-seal <message | cspool-append'
is "$(get -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/bob/head")" 401 "whether there is a spool is not told"
netrc "$append"
head=$(cat "$root/alice/head")
on mailhost cspool-seal <message >stream
is "$(head -c 1000 stream | get --data-binary @- "$url")" "the request: cut off after frame 0" "a stream cut off is refused"
is "$(get --data-binary 'no stream at all, but long enough to have a frame before it is cut off' "$url/")" \
	"the request: text where a stream must begin: 'no stream at all, but long enough to have a fram' (of a .bashrc or a motd?)" "as is what is none"
is "$(get -H 'Transfer-Encoding: chunked' --data-binary @stream "$url")" "a Content-Length is needed" "a length is needed"
is "$(cat "$root/alice/head")" "$head" "and the spool is as it was"
ok "curl can append" sh -c "curl -s -n --data-binary @stream '$url' | grep -q '^cspool-appended 1 '"
is "$(get "$url/tokens") $(get --path-as-is "$url/../tokens")" \
	"no token for this spool no token for this spool" "only files of spools are given"
netrc "$fetch"
for name in ../tokens lock tokens %2e%2e/tokens 'head?x' 'alice/head'; do
	case $(get --path-as-is -o /dev/null -w '%{http_code}' "$url/$name") in
	401 | 404) ;;
	*) is "$name" "" "is not given" ;;
	esac
done
ln -s ../tokens "$root/alice/segments.999"
is "$(get -o /dev/null -w '%{http_code}' "$url/segments.999")" 403 "no link is followed"
log=00000000000000000001.0.log
get "$url/$log" >whole
ok "a file" cmp whole "$root/alice/$log"
get -r 100-299 "$url/$log" >part
ok "a range of it" sh -c "tail -c +101 whole | head -c 200 | cmp - part"
get -r -50 "$url/$log" >part
ok "its end" sh -c "tail -c 50 whole | cmp - part"
is "$(get -r 9999999- -o /dev/null -w '%{http_code}' "$url/$log")" 416 "a range that is not there"
get -r 0-1,5-6 "$url/$log" >part
ok "several ranges are the whole" cmp part whole
is "$(get -I "$url/head" | sed -n 's/^Content-Length: //p' | tr -d '\r')" "$(wc -c <"$root/alice/head")" "HEAD"
tag=$(get -I "$url/head" | sed -n 's/^ETag: //p' | tr -d '\r')
is "$(get -H "If-None-Match: $tag" -o /dev/null -w '%{http_code}' "$url/head")" 304 "what has not changed"

netrc "$both"
expect "one token for both" 0 '' '' on mailhost pipe 'cspool-seal <message | cspool-append && cspool-fetch >fetched'

# A follower hears of news at once, and asks seldom.
CSPOOL_HOME=$HOME/desktop cspool-fetch --follow >followed &
pids="$pids $!"
follower=$!
await test -s followed
sleep 1
before=$(wc -c <followed)
asked=$(grep -c 'GET /alice/head' access.log)
echo "$root/alice" >"$HOME/mailhost/append"
printf 'Subject: two\n\n2\n' | deliver
ok "a follower hears of news" await sh -c "test \$(wc -c <followed) -gt $before"
ok "and has asked seldom" test "$(grep -c 'GET /alice/head' access.log)" -le $((asked + 3))
kill $follower

# It ends when it is told to, and not before what it has begun is done.
kill $server
wait $server
is $? 0 "SIGTERM ends it"
is "$(tail -n 1 access.log | sed 's/\[.*\]/[]/')" '127.0.0.1 - - [] "GET /alice/head HTTP/1.1" 200 '"$(wc -c <"$root/alice/head")" \
	"the log has a line for each request" 
serve --max-stream=5000 --max-bytes=4000
rm "$HOME/mailhost/append"
echo "$url" >"$HOME/mailhost/spool"
netrc "$append"
head -c 6000 /dev/urandom >long
expect "more than it takes at once" 75 '' "cspool-append: $url: the server answers 413: * octets, more than the limit of 5000" \
	on mailhost pipe 'cspool-seal <long | cspool-append'
expect "more than the spool may hold" 75 '' "cspool-append: $url: the server answers 507: alice: over its quota: *" \
	on mailhost pipe 'cspool-seal <message | cspool-append'
chmod 000 "$root/tokens"
[ "$(id -u)" -eq 0 ] || expect "tokens that cannot be read" 75 '' '*the tokens cannot be read' \
	on mailhost pipe 'cspool-seal <message | cspool-append'
chmod 600 "$root/tokens"
kill $server
wait $server

# Killed in the middle of anything: the mail server tries again, and it is delivered once.
for round in 1 2 3 4 5 6; do
	serve
	echo "$url" >"$HOME/mailhost/spool"
	{ printf 'Subject: killed %s\n\n' $round && head -c 2000000 /dev/urandom | base64; } >message
	on mailhost pipe 'cspool-seal <message | cspool-append' 2>killed.err &
	appending=$!
	python3 -c "import time; time.sleep($round * 0.03)"
	kill -9 $server
	wait $appending
	case $? in 0 | 75) ;; *) ok "killed: 0 or 75" false ;; esac
	serve
	echo "$url" >"$HOME/mailhost/spool"
	for _ in 1 2; do on mailhost pipe 'cspool-seal <message | cspool-append'; done
	kill $server
	wait $server
done
echo "$root/alice" >"$HOME/laptop/spool"
on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop imap 'a SELECT INBOX' 'b SEARCH SUBJECT killed' | sed -n 's/^\* SEARCH//p' | wc -w)" 6 \
	"killed in the middle: nothing is lost, and all delivered once"

done_testing
