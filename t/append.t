#!/bin/sh
. "$(dirname "$0")/tap.sh"
cspool-keygen key
cspool-mkspool spool
echo mail | cspool-seal --from=key --to=key.pub >stream
size=$(wc -c <stream)
state() { (cd spool && find . -type f ! -name lock -exec cksum {} + | sort); }
before=$(state)

expect "makes a spool once" 73 '' 'cspool-mkspool: spool: file exists' cspool-mkspool spool
is "$(stat -c %a spool)" 700 "a spool is for its owner only"
expect "no spool is made by an append" 75 '' "cspool-append: none: no spool here *" pipe 'cspool-append none <stream'
ok "really none" test ! -e none
expect "a directory that is no spool" 75 '' 'cspool-append: .: no spool here *' pipe 'cspool-append . <stream'
expect "no octet, not even an end frame" 75 '' 'cspool-append: standard input: empty: *' pipe 'cspool-append spool </dev/null'
expect "standard input closed" 75 '' 'cspool-append: standard input: empty: *' pipe 'cspool-append spool <&-'
expect "no stream" 65 '' 'cspool-append: standard input: text where a stream must begin: *' \
	pipe 'yes no | head -c 5000 | cspool-append spool'
expect "a length that nobody would send" 65 '' 'cspool-append: *4294967295 octets, more than the limit *' \
	pipe 'head -c 100 /dev/zero | tr "\0" "\377" | cspool-append spool'
expect "something behind the end" 65 '' 'cspool-append: standard input: something follows *' \
	pipe 'cat stream stream | cspool-append spool'
expect "a stream that says less than it held" 65 '' 'cspool-append: standard input: 1 frames were written, 2 arrived' \
	pipe "(head -c $((size - 48)) stream; cat stream) | cspool-append spool"

refused=0
for cut in 1 20 47 48 49 500 $((size - 49)) $((size - 48)) $((size - 47)) $((size - 1)); do
	head -c "$cut" stream | cspool-append spool 2>/dev/null
	[ $? -eq 75 ] && refused=$((refused + 1))
done
is "$refused" 10 "cut at any octet it is refused with 75"
refused=0
for octet in 0 9 17 60 900 $((size - 40)); do
	python3 - "$octet" <<'EOF' >damaged
import sys
octets = bytearray(open("stream", "rb").read())
octets[int(sys.argv[1])] ^= 4
sys.stdout.buffer.write(octets)
EOF
	cspool-append spool <damaged 2>/dev/null
	case $? in 65 | 75) refused=$((refused + 1)) ;; esac
done
is "$refused" 6 "with any octet changed it is refused"
is "$(state)" "$before" "all that has left the spool as it was"

expect "a whole stream" 0 '' '' pipe 'cspool-append spool <stream'
expect "what another spool holds" 0 '' '' pipe 'cspool-fetch spool | cspool-append spool'

# Whatever the system says, a mail server must keep the mail.
cp -R spool broken
log=$(echo broken/*.log)
mv "$log" moved
expect "a segment that is missing" 75 '' "cspool-append: $log: missing: the spool is damaged" pipe 'cspool-append broken <stream'
ln -s "$PWD/moved" "$log"
expect "a segment that is a link" 75 '' "cspool-append: $log: *" pipe 'cspool-append broken <stream'
# Whoever owns the directory may put anything there, and another user's server must neither follow it nor wait for it.
echo secret >outside
for name in format head segments.1 lock head.next.new head.new 00000000000000000001.0.log; do
	for kind in "ln -s $PWD/outside" mkfifo; do
		rm -rf broken && cp -R spool broken
		rm -f "broken/$name"
		$kind "broken/$name"
		expect "$name made with ${kind%% *}" 75 '' "cspool-append: broken*" timeout 10 sh -c 'cspool-append broken <stream'
		[ "$name" = lock ] || [ "${name##*.}" = new ] ||
			expect "nor for a reader" 66 '' "cspool-fetch: broken/$name: not a plain file" timeout 10 sh -c 'cspool-fetch --after=0 broken >/dev/null'
	done
done
is "$(cat outside)" secret "nothing outside is written"
expect "a limit on the size of files" 75 '' "cspool-append: *: file too large" \
	sh -c 'ulimit -f 1; cspool-append spool <stream'
head -c 20000000 /dev/urandom | cspool-seal --from=key --to=key.pub >large
expect "no room for a long stream to wait" 75 '' "cspool-append: *" \
	sh -c 'ulimit -f 1000; cspool-append spool <large'

# What stands unacknowledged behind the end is left there, and never read.
log=$(echo spool/*.log)
good=$(wc -c <"$log") good_sum=$(cksum <"$log")
head -c 700 stream >>"$log"
expect "an append after a crash" 0 '' '' pipe 'cspool-append spool <stream'
is "$(wc -c <"$log")" "$((good + 700))" "cuts nothing off"
is "$(head -c "$good" "$log" | cksum)" "$good_sum" "and changes nothing"
is "$(find spool -name '*.log' | wc -l)" 2 "another segment is begun"
cspool-fetch --after=0 spool >all
expect "and all records are read, in order" 0 '1 2 3 ' '' python3 -c "
import os, sys
sys.path.insert(0, '$top/lib')
from cspool import frame
for one in frame.read(open('all', 'rb')):
    if one.number != frame.HEAD_NUMBER: print(one.number, end=' ')"
expect "from the middle too" 0 '3' '' python3 -c "
import io, subprocess, sys
sys.path.insert(0, '$top/lib')
from cspool import frame
out = subprocess.run(['cspool-fetch', '--after=2', 'spool'], stdout=subprocess.PIPE).stdout
print([one.number for one in frame.read(io.BytesIO(out))][1])"
expect "behind the end there is nothing" 0 '' '' pipe 'cspool-fetch --after=99 spool >all'
expect "no number" 64 '' 'cspool-fetch: --after=x: not a number' cspool-fetch --after=x spool

# The log shorter than head says: damaged, and no place for mail.
log=$(find spool -name '*.log' | sort | tail -1)
cp -R spool whole
truncate -s -1 "$log"
expect "no append to a damaged log" 75 '' 'cspool-append: *shorter than it was*' pipe 'cspool-append spool <stream'
expect "nor a whole stream from it" 75 '*' 'cspool-fetch: *shorter than it was*' cspool-fetch --after=0 spool
rm -rf spool && mv whole spool
echo >spool/head
expect "a damaged head" 75 '' 'cspool-append: spool/head: not a head of a spool, or damaged' pipe 'cspool-append spool <stream'

# Many at once lose nothing.
cspool-mkspool many
for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do cspool-append many <stream & done
wait
is "$(sed -n 's/^next //p' many/head)" 13 "twelve appends at once are twelve records"

# A long stream waits on disk, not in memory, and is one append.
expect "twenty megabytes" 0 '' '' pipe 'head -c 20000000 /dev/urandom | cspool-seal --from=key --to=key.pub | cspool-append many'
is "$(sed -n 's/^next //p' many/head)" 14 "are a record"

# Who says that it is on disk.
rm -rf spool && cspool-mkspool spool
expect "an acknowledgement" 0 "cspool-appended 1 $(python3 -c 'import hashlib; print(hashlib.blake2b(open("stream", "rb").read(), digest_size=32).hexdigest())')" '' \
	pipe 'cspool-append --ack spool <stream'
expect "that nobody can take" 75 '' 'cspool-append: no space left on device' pipe 'cspool-append --ack spool <stream >/dev/full'

# Modes are those of format, whatever the umask of the writer.
rm -rf modes && cspool-mkspool modes && chmod 640 modes/format && chmod 2750 modes
(umask 077 && cspool-append modes <stream)
(umask 0 && cspool-append modes <large)
is "$(stat -c %a modes/head modes/*.log | sort -u | xargs)" 640 "files that others may read stay so under umask 077"
is "$(stat -c %a modes/lock)" 600 "only the owner can lock"
if [ "$(id -u)" -eq 0 ]; then
	chown -R nobody modes
	cspool-append modes <stream
	is "$(stat -c %U modes/head modes/*.log | sort -u)" nobody "what root appends belongs to the owner of the spool"
	chown root modes/*.log && chmod 640 modes/*.log
	last=$(sed -n 's/^segment \([^ ]*\) .*/\1/p' modes/head)
	# The user changes within the process: nobody else need be able to read this tree, or its Python.
	cat >as_nobody.py <<-EOF
		import os, pwd, sys
		sys.path.insert(0, "$top/lib")
		from cspool.spool.append import Spool
		Spool("spool").append([b"all that this imports is here"])
		os.setgroups([])
		os.setuid(pwd.getpwnam("nobody").pw_uid)
		Spool("modes").append([b"a record"])
	EOF
	expect "a last segment of another user's" 0 '' '' pipe 'chmod go+rx . && python3 as_nobody.py'
	ok "is closed" grep -q "^$last [0-9]" modes/segments."$(sed -n 's/^segments \([0-9]*\) .*/\1/p' modes/head)"
fi

# No more waits in TMPDIR than may be appended.
mkdir waiting
cat >endless.py <<EOF
import sys
sys.path.insert(0, "$top/lib")
from cspool import frame
for _ in range(100):
    sys.stdout.buffer.write(frame.encode(bytes(1 << 20)))
EOF
expect "a stream longer than the quota" 75 '' 'cspool-append: spool: over its quota: *' \
	sh -c 'python3 endless.py 2>cut | TMPDIR=$PWD/waiting cspool-append --max-bytes=1000000 spool'
ok "is refused before it has come" grep -q BrokenPipe cut

done_testing
