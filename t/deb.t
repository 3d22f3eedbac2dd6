#!/bin/sh
# The package for Debian: built, installed, used, removed.
. "$(dirname "$0")/own.sh"
need make dpkg-deb man

expect "make deb" 0 '*' '' make -s -C "$top" deb OUT="$scratch"
if command -v lintian >/dev/null; then
	expect "lintian has nothing to say" 0 '' '*' lintian --allow-root --fail-on=error,warning cspool_*_all.deb
fi
rm -f /etc/dpkg/dpkg.cfg.d/* # where a small image leaves out all manuals
files() { find /etc /usr /var/lib -path /var/lib/dpkg -prune -o -print | sort; }
files >before
expect "dpkg installs it" 0 '*' '' dpkg -i cspool_*_all.deb
PATH=/usr/bin:/bin:/usr/sbin:/sbin
is "$(man -w cspool-imapd)" /usr/share/man/man8/cspool-imapd.8.gz "man finds the manual"
ok "which names what is installed" sh -c "man -P cat cspool-imapd | grep -q ' /usr/bin/cspool-imapd'"
is "$(command -v cspool-seal)" /usr/bin/cspool-seal "the tools are there"
ok "and are compiled for all users" sh -c 'ls /usr/lib/cspool/__pycache__/frame.*.pyc'
make_homes
printf 'Subject: one\n\n1\n' | deliver
expect "they work together" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 1 "on a message"
expect "dpkg removes it" 0 '*' '' dpkg -P cspool
files >after
is "$(diff before after)" "" "and leaves nothing"

done_testing
