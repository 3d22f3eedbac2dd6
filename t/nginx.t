#!/bin/sh
# man/examples/nginx.conf as it stands, but for names and paths: HTTPS, passwords, appends passed on to cspool-httpd.
. "$(dirname "$0")/tap.sh"
. "$here/nginx.sh"
need openssl curl
make_homes
root=$HOME/spools
mkdir "$root" nginx nginx/users
mv "$HOME/spool" "$root/alice"
url=https://localhost:$web_port

# The certificate of an authority of our own, which the system does not know.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
	-keyout tls.key -out tls.pem 2>/dev/null
appends=$(free_port)
sed "s|listen 443|listen 127.0.0.1:$web_port|; s|/etc/ssl/spool.example.org|$scratch/tls|; s|/var/spool/cspool|$root|
	s|/etc/nginx/cspool|$scratch/nginx/users|; s|127.0.0.1:3999|127.0.0.1:$appends|" "$top/man/examples/nginx.conf" >conf
start_nginx <conf
cspool-httpd --listen=127.0.0.1:"$appends" "$root" 2>httpd.log &
pids="$pids $!"
await curl -s "http://127.0.0.1:$appends/"

token=$(cspool-httpd --new-token=append "$root" alice)
# The line of the example.
printf 'alice:%s\n' "$(echo "$token" | openssl passwd -6 -stdin)" >nginx/users/alice
echo "machine localhost login alice password $token" >"$HOME/.netrc"
chmod 600 "$HOME/.netrc"
for home in laptop mailhost; do echo "$url/alice" >"$HOME/$home/spool"; done
expect "a certificate that nobody knows" 75 '' \
	"cspool-fetch: $url/alice/head: its certificate is not good: self-signed certificate" to_null on laptop cspool-fetch
SSL_CERT_FILE=$scratch/tls.pem
export SSL_CERT_FILE
expect "another host's" 75 '' "cspool-fetch: https://127.0.0.1:$web_port/alice/head: its certificate is not good: *" \
	to_null cspool-fetch --after=0 "https://127.0.0.1:$web_port/alice"
expect "append" 0 '' '' on mailhost pipe 'printf "Subject: one\n\n1\n" | cspool-seal | cspool-append'
expect "and fetch" 0 '' '' on laptop cspool-sync
is "$(on laptop count_messages)" 1 "the message is there"
: >"$access_log"
expect "nothing new" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(cut -d' ' -f1,2 "$access_log")" "/alice/head 200" "is one request"
{ echo "Subject: long" && echo && head -c 3000000 /dev/urandom | base64; } >long
expect "a long message" 0 '' '' on mailhost pipe 'cspool-seal <long | cspool-append'
expect "comes too" 0 '' '' on laptop cspool-sync
is "$(on laptop count_messages)" 2 "and is there"

status() { curl -s -o /dev/null -w '%{http_code}' --path-as-is "$@"; }
is "$(status --cacert tls.pem "$url/alice/head")" 401 "nothing without a password"
is "$(status --cacert tls.pem -n "$url/bob/head")" 403 "nor of another spool"
for path in /tokens /alice/tokens /alice/lock /alice/../tokens /alice/%2e%2e/tokens /; do
	is "$(status --cacert tls.pem -n "$url$path" | sed 's/40[034]/no/')" no "GET $path"
done
ln -s ../tokens "$root/alice/segments.9"
is "$(status --cacert tls.pem -n "$url/alice/segments.9")" 403 "no link is followed"
echo 'machine localhost login alice password wrong' >"$HOME/.netrc"
expect "a wrong password" 75 '' "cspool-fetch: $url/alice/head: the server refuses us (401): see ~/.netrc" \
	to_null on laptop cspool-fetch
expect "a wrong token" 75 '' "cspool-append: $url/alice/: the server refuses us (401): see ~/.netrc" \
	on mailhost pipe 'cspool-seal <long | cspool-append'

done_testing
