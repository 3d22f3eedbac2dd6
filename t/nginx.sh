# A real nginx on loopback, with the given server blocks. Source it after tap.sh.
# It sets web_port and url; `start_nginx` sets access_log.

# shellcheck shell=sh disable=SC2154,SC2034 # scratch and pids are those of tap.sh; the tests use url
nginx=$(command -v nginx || echo /usr/sbin/nginx)
[ -x "$nginx" ] || skip_all "nginx is not installed"
web_port=$(free_port)
url=http://127.0.0.1:$web_port

# start_nginx <SERVERS: start nginx, and wait until it listens on $web_port.
start_nginx() {
	access_log=$scratch/nginx/access.log
	mkdir -p nginx
	cat >nginx/conf <<-EOF
		$([ "$(id -u)" -eq 0 ] && echo "user $(id -un);")
		daemon off;
		pid $scratch/nginx/pid;
		error_log $scratch/nginx/error.log;
		events {}
		http {
			log_format sizes '\$request_uri \$status \$bytes_sent \$connection';
			access_log $access_log sizes;
			client_body_temp_path $scratch/nginx/body;
			proxy_temp_path $scratch/nginx/proxy;
			fastcgi_temp_path $scratch/nginx/fastcgi;
			uwsgi_temp_path $scratch/nginx/uwsgi;
			scgi_temp_path $scratch/nginx/scgi;
			include $scratch/nginx/servers;
		}
	EOF
	cat >nginx/servers
	"$nginx" -e "$scratch/nginx/error.log" -p "$scratch/nginx" -c "$scratch/nginx/conf" &
	nginx_pid=$!
	pids="$pids $nginx_pid"
	await python3 -c "import socket; socket.create_connection(('127.0.0.1', $web_port))" ||
		skip_all "nginx does not start here: $(cat nginx/error.log)"
}
