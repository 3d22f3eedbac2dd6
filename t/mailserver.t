#!/bin/sh
# A script stands in for the mail server: it runs the line of .forward and looks
# at its status. Whatever fails, the status is 75, and a retry delivers once.
. "$(dirname "$0")/tap.sh"
make_homes
printf 'Subject: one\n\n1\n' >message

# A slow message, for something to happen while it is read.
slowly() { head -c 5 message && sleep 0.5 && tail -c +6 message; }

# delivered NAME NUMBER: once the fault is gone, two tries deliver once.
delivered() {
	on mailhost pipe 'cspool-seal <message | cspool-append' && on mailhost pipe 'cspool-seal <message | cspool-append'
	on laptop pipe 'cspool-fetch | cspool-apply'
	is "$(on laptop count_messages)" "$2" "$1"
}
forward=' cspool-seal | cspool-append || exit 75'

# The first stage fails.
mv "$HOME/mailhost/key" kept
expect "no key" 75 '' '*cspool-seal: *key: no such file*' on mailhost pipe "<message $forward"
echo bad >"$HOME/mailhost/key" && chmod 600 "$HOME/mailhost/key"
expect "a bad key" 75 '' '*cspool-seal: *key: not a secret key*' on mailhost pipe "<message $forward"
mv kept "$HOME/mailhost/key"
expect "no message" 75 '' '*cspool-seal: standard input: empty*' on mailhost pipe "</dev/null $forward"
expect "no cspool-seal" 75 '' '*' on mailhost pipe 'cspool-no-seal <message | cspool-append || exit 75'
cat >killed <<'EOF'
#!/bin/sh
# Kill cspool-seal after $1 seconds.
cspool-seal & pid=$!
(sleep "$1"; kill -9 $pid) 2>/dev/null &
wait $pid
EOF
chmod +x killed
PATH=$scratch:$PATH
failed_well=0
for after in 0 0.005 0.01 0.015 0.02 0.03 0.04; do
	slowly | on mailhost pipe "killed $after | cspool-append || exit 75" 2>/dev/null
	[ $? -eq 75 ] && failed_well=$((failed_well + 1))
done
is "$failed_well" 7 "seal killed at any moment is 75"

# The last stage fails.
mv "$HOME/spool" "$HOME/away"
expect "no spool" 75 '' 'cspool-append: */spool: no spool here *' on mailhost pipe "<message $forward"
mv "$HOME/away" "$HOME/spool"
delivered "and delivered once afterwards" 1

# A killed append has either appended all or nothing, and says 75 through the shell.
failed_well=0
for after in 0.01 0.02 0.03 0.04 0.05; do
	printf 'Subject: %s\n\n1\n' $after >message
	on mailhost pipe "cspool-seal <message >stream; timeout -s KILL $after cspool-append <stream || exit 75" 2>/dev/null
	case $? in 0 | 75) failed_well=$((failed_well + 1)) ;; esac
	delivered "append killed after $after s: delivered once" $((failed_well + 1))
done
is "$failed_well" 5 "append killed is 75"

# A full disk, where this user may mount one.
mkdir full
cat >on_full_disk <<'EOF'
#!/bin/sh
# In a mount namespace of our own: a spool on a small file system.
mount -t tmpfs -o size=1m none full || exit 99
cspool-mkspool full/spool && echo "$PWD/full/spool" >"$CSPOOL_HOME/spool" || exit 98
head -c 1500000 /dev/urandom >large
(cspool-seal <large | cspool-append || exit 75)
echo "large: $?"
ls full/spool | grep -c log
cp full/spool/head head.before
head -c 900000 /dev/urandom >full/filler
(cspool-seal <message | cspool-append || exit 75) 2>/dev/null
echo "small: $?"
cmp head.before full/spool/head && echo unchanged
rm full/filler
for try in 1 2; do (cspool-seal <message | cspool-append || exit 75); echo "again: $?"; done
cspool-fetch full/spool | cspool-append "$HOME/spool"
EOF
chmod +x on_full_disk
printf 'Subject: full\n\n1\n' >message
head -c 100000 /dev/urandom | base64 >>message
if unshare -rm true 2>/dev/null; then
	expect "a full disk is 75, and afterwards the retry succeeds" 0 'large: 75
0
small: 75
unchanged
again: 0
again: 0' '*cspool-append: *no space left on device*' on mailhost unshare -rm ./on_full_disk
	echo "$HOME/spool" >"$HOME/mailhost/spool"
	delivered "and delivers once" 7
else
	[ -z "${CSPOOL_NO_SKIP:-}" ] || ok "a full disk must not be skipped" false
	echo "# a full disk: skipped, for this user may not mount one"
fi

done_testing
