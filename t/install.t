#!/bin/sh
# make install: works without the source tree, and uninstall leaves nothing.
. "$(dirname "$0")/tap.sh"
need make

python=$(command -v python3)
expect "make install" 0 '*' '' make -C "$top" install DESTDIR="$scratch/root" PREFIX=/opt/cspool PYTHON="$python"
bin=$scratch/root/opt/cspool/bin
is "$(head -1 "$bin/cspool-seal")" "#!$python" "the interpreter is fixed"
is "$(cd "$bin" && echo *)" "$(cd "$top/bin" && echo *)" "all tools are there"
PATH=$bin:/usr/bin:/bin
if command -v man >/dev/null; then
	is "$(man -w cspool-imapd)" "$scratch/root/opt/cspool/share/man/man8/cspool-imapd.8" "man finds the manual"
fi
ok "which names what is installed" grep -q /opt/cspool/bin/cspool-imapd "$scratch/root/opt/cspool/share/man/man8/cspool-imapd.8"
expect "an installed tool runs" 0 "cspool-keygen *" '' cspool-keygen --version
make_homes
printf 'Subject: one\n\n1\n' | deliver
expect "the installed tools work together" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 1 "on a message"
ok "in a directory with modules of the same names" sh -c "mkdir odd && cd odd && echo 'raise SystemExit(9)' >frame.py && cspool-seal --version"
PATH=${VENV:-$top/.venv}/bin:$PATH
expect "make uninstall" 0 '*' '' make -C "$top" uninstall DESTDIR="$scratch/root" PREFIX=/opt/cspool
is "$(find "$scratch/root" ! -type d)" "" "leaves no file"

# The distribution's own packages: the system's Python with docopt 0.6.2.
if /usr/bin/python3 -c 'import nacl, docopt, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
	make -s -C "$top" install DESTDIR="$scratch/system" PREFIX=/usr PYTHON=/usr/bin/python3
	PATH=$scratch/system/usr/bin:/usr/bin:/bin
	rm -rf "$HOME" && mkdir "$HOME"
	make_homes
	printf 'Subject: one\n\n1\n' | deliver
	expect "works with the distribution's packages" 0 '' '' on laptop pipe 'cspool-fetch | cspool-apply'
	expect "usage too" 64 '' 'cspool-trust: usage: *' cspool-trust
	expect "and help" 0 'Choose which mail hosts*' '' cspool-trust --help
else
	[ -z "${CSPOOL_NO_SKIP:-}" ] || ok "the distribution's packages must not be skipped" false
	echo "# the distribution's python3-nacl and python3-docopt: skipped, not installed"
fi

# The archive as pip and pipx take it, and the manuals for a web site.
expect "make dist" 0 '' '' make -s -C "$top" dist OUT="$scratch"
ok "generates what pip needs" sh -c "tar -tzf cspool-*.tar.gz | grep -q '^cspool-[0-9.]*/pyproject.toml'"
"$python" -m venv fresh
if fresh/bin/pip install --quiet --disable-pip-version-check cspool-*.tar.gz >pip.log 2>&1; then
	expect "pip installs the archive" 0 'cspool [0-9]*  setup *' '' env -i PATH=/usr/bin:/bin fresh/bin/cspool
	ok "with the manuals" test -e fresh/share/man/man7/cspool-recovery.7
	expect "and the tools run" 0 '' '' env -i HOME="$HOME" PATH=/usr/bin:/bin fresh/bin/cspool mkspool from-pip
else
	echo "# pip cannot install here: $(tail -1 pip.log)"
fi
if command -v mandoc >/dev/null; then
	expect "make html" 0 '' '' make -s -C "$top" html OUT="$scratch"
	is "$(echo html/*.[1578].html | wc -w)" "$(echo "$top"/man/*.[1578] | wc -w)" "has each page"
	ok "with its picture" grep -q pipeline.svg html/cspool.7.html
	is "$(grep -ho 'href="cspool[^"#]*' html/*.html | sort -u | sed 's/href="//' | while read -r page; do [ -e "html/$page" ] || echo "$page"; done)" "" \
		"and no link leads nowhere"
fi

done_testing
