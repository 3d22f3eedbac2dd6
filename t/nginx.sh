# A real nginx on loopback that serves $HOME/www, and what it refuses:
# sourced after tap.sh. `start_nginx` sets url and access_log.

# shellcheck shell=sh disable=SC2154,SC2034 # scratch and pids are those of tap.sh; the tests use url
nginx=$(command -v nginx || echo /usr/sbin/nginx)
[ -x "$nginx" ] || skip_all "nginx is not installed"

start_nginx() {
	port=$(free_port)
	url=http://127.0.0.1:$port
	access_log=$scratch/nginx/access.log
	mkdir -p nginx "$HOME/www"
	cat >nginx/conf <<-EOF
		$([ "$(id -u)" -eq 0 ] && echo "user $(id -un);")
		daemon off;
		pid $scratch/nginx/pid;
		error_log $scratch/nginx/error.log;
		events {}
		http {
			log_format sizes '\$request_uri \$status \$bytes_sent';
			access_log $access_log sizes;
			client_body_temp_path $scratch/nginx/body;
			proxy_temp_path $scratch/nginx/proxy;
			fastcgi_temp_path $scratch/nginx/fastcgi;
			uwsgi_temp_path $scratch/nginx/uwsgi;
			scgi_temp_path $scratch/nginx/scgi;
			server {
				listen 127.0.0.1:$port;
				root $HOME/www;
				location /noranges/ { alias $HOME/www/; max_ranges 0; }
				location /elsewhere/ { return 301 http://example.org/; }
				location /broken/ { return 503; }
				location /private/ {
					alias $HOME/www/;
					auth_basic spool;
					auth_basic_user_file $scratch/nginx/passwords;
				}
			}
		}
	EOF
	echo 'alice:{PLAIN}secret' >nginx/passwords
	"$nginx" -e "$scratch/nginx/error.log" -p "$scratch/nginx" -c "$scratch/nginx/conf" &
	pids="$pids $!"
	await answers "$url/" || skip_all "nginx does not start here: $(cat nginx/error.log)"
}

# answers URL: whether something answers there, whatever it says.
answers() {
	python3 -c 'import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1])
except urllib.error.HTTPError:
    pass' "$1"
}
