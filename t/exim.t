#!/bin/sh
# A real Exim: the .forward of cspool(7), and the router and the transport of the examples.
. "$(dirname "$0")/machine.sh"
need exim4
make_bob

for file in passwd group; do grep -q ^Debian-exim: /etc/$file || echo "Debian-exim:x:10003:10003::/:/bin/false" >>/etc/$file; done
mkdir -p /etc/exim4
# Exim starts itself anew as each user: each must reach it, and it must become root again.
install -m 4755 "$(command -v exim4)" /usr/local/sbin/exim4
PATH=/usr/local/sbin:$PATH
install -d -o Debian-exim "$scratch/exim"
example() { sed -n "/^begin $1/,/^begin/p" "/usr/local/share/doc/cspool/examples/exim.conf" | grep -v ^begin; }
cat >/etc/exim4/exim4.conf <<END
exim_path = /usr/local/sbin/exim4
keep_environment =
primary_hostname = mail.example.org
spool_directory = $scratch/exim
log_file_path = $scratch/exim/log.%s
begin routers
$(example routers)
forward:
  driver = redirect
  check_local_user
  file = \$home/.forward
  pipe_transport = address_pipe
begin transports
$(example transports)
address_pipe:
  driver = pipe
begin retry
* * F,1h,1s
END
mail() { printf 'From: x@example.net\nSubject: %s\n\nhello\n' "$1" | exim4 -odf "$2"; }
queued() { exim4 -bp | grep -q "$1"; }
try_again() { exim4 -qff && sleep 0.1 && "$@"; }

man -P cat 7 cspool | grep -o "\"|/bin/sh -c .*\"" >"$scratch/alice/.forward"
chown alice "$scratch/alice/.forward"
mail one alice@mail.example.org
ok "arrives by .forward" has alice one
stop_spoolhost
mail away alice@mail.example.org
ok "the spool host is away: the mail stays" queued alice
start_spoolhost
ok "and arrives later" await try_again has alice away
is "$(subjects alice)" "one away" "each once"

mail piped bob@example.org
mail plussed bob+lists@example.org
ok "arrives by pipe" has cspool piped
ok "for a plus address too" has cspool plussed lists
mv /etc/cspool/bob/key /etc/cspool/bob/kept
mail bobless bob@example.org
ok "no key: the mail stays" queued bob
mv /etc/cspool/bob/kept /etc/cspool/bob/key
ok "and arrives later" await try_again has cspool bobless
is "$(subjects cspool)" "piped bobless" "each once"
for user in ../cspool/bob .bob nobody ''; do
	expect "deliver '$user': no such user" 67 '' '' as cspool "/etc/cspool/deliver '$user' </dev/null"
done

done_testing
