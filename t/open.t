#!/bin/sh
# Records for scripts: cspool-open, and cspool-seal --commands.
. "$(dirname "$0")/tap.sh"
make_homes
printf 'Subject: one\n\nüber\n' | deliver
printf 'Subject: two\n\n\377\n' | deliver
on laptop cspool-sync
on laptop imap 'a SELECT INBOX' 'b STORE 1 +FLAGS (\Flagged)' >/dev/null
on laptop cspool-sync
field() { python3 -c 'import json, sys
for line in sys.stdin:
    value = json.loads(line)
    for name in sys.argv[1:]:
        value = value.get(name, {})
    print(value)' "$@"; }

expect "a stream" 0 '*"command":{"command":"change"*' '' on laptop pipe 'cspool-fetch --after=0 | cspool-open'
mv out lines
is "$(field record <lines | xargs)" "1 2 3 4" "a line for each record"
is "$(field command command <lines | xargs)" "change deliver deliver change" "says what it is"
is "$(field octets <lines | sed -n 2,4p)" "$(printf 'Subject: one\n\nüber\n')" "with its octets, as text"
is "$(sed -n 3p lines | field base64 | base64 -d | tr '\377' X)" "$(printf 'Subject: two\n\nX\n')" "or in base64"
is "$(sed -n 2p lines | field signer)" "$(on laptop cspool-trust --list | cut -d' ' -f2)" "and its signer"
printf 'Subject: x\n\n1\n' | cspool-seal --from="$HOME/mailhost/key" --to="$HOME/mailhost/key.pub" >other
expect "what does not open" 65 '' 'cspool-open: record 0: does not open with this key' on laptop pipe 'cspool-open <other'
expect "what is no stream" 65 '' 'cspool-open: standard input: *' on laptop pipe 'head -c 500 /dev/zero | tr "\0" x | cspool-open'
expect "one that was cut off" 75 '*' 'cspool-open: standard input: cut off *' on laptop pipe 'cspool-fetch --after=0 | head -c 2000 | cspool-open'

printf 'Subject: \302\233\033[31m \342\200\256 \177\n\n1\n' | on mailhost cspool-seal >control
expect "what controls a terminal" 0 '*Subject: \\u009b\\u001b\[31m \\u202e \\u007f\\n*' '' on laptop pipe 'cspool-open <control'
cp -R "$HOME/spool" "$HOME/compacted"
on laptop pipe "cspool-checkpoint | cspool-compact '$HOME/compacted'"
expect "a log that has been compacted" 0 '*' '' on laptop pipe "cspool-fetch --after=0 '$HOME/compacted' | cspool-open"
cspool-mkspool "$HOME/copy"
on laptop pipe "cspool-fetch --after=0 '$HOME/compacted' | cspool-append '$HOME/copy'"
is "$(cspool-fetch --after=0 "$HOME/copy" | on laptop cspool-open | field command command | sort | uniq -c | tr -s '\n ' ' ')" " 2 checkpoint 2 checkpoint-part 2 deliver " \
	"gives its records to another log, the checkpoint twice, and no hashes"

# And back.
expect "sealed again" 0 '' '' on laptop pipe "cspool-seal --commands --to='$HOME/laptop/key.pub' <lines >stream"
unsealed() { cut -d, -f3- | sed 's/"sealed":[0-9]*//'; }
is "$(on laptop pipe 'cspool-open <stream' | unsealed)" "$(unsealed <lines)" "it says the same, but when it was sealed"
printf '%s\n' '{"command":{"command":"deliver","date":0,"mailbox":"Notes"},"octets":"Subject: by a script\n\n1\n"}' >script
expect "what a script says" 0 '' '' on laptop pipe "cspool-seal --commands --to='$HOME/laptop/key.pub' <script | cspool-append && cspool-sync"
is "$(on laptop imap 'a SELECT Notes' 'b FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]' | sed -n 's/^Subject: //p')" "by a script" "is done"
expect "nothing" 0 '' '' on laptop pipe "cspool-seal --commands --to='$HOME/laptop/key.pub' </dev/null | cspool-append"
for line in x '[]' '{}' '{"command":1}' '{"command":{"command":"deliver"}}' '{"command":{"command":"deliver","date":0},"octets":1}' \
	'{"command":{"command":"deliver","date":0},"base64":"!"}' '{"command":{"command":"deliver","date":0}}'; do
	printf '%s\n' "$line" >bad
	expect "no command: $line" 65 '' 'cspool-seal: *' on laptop pipe "cspool-seal --commands --to='$HOME/laptop/key.pub' <bad"
done
done_testing
