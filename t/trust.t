#!/bin/sh
. "$(dirname "$0")/tap.sh"
make_homes
cspool-keygen --comment=relay relay
relayed() { cspool-seal --from=relay --to="$HOME/laptop/key.pub" | on mailhost cspool-append; }

printf 'Subject: early\n\n1\n' | relayed
expect "mail of a host that is not trusted is set aside" 65 '' 'cspool-apply: record 2 is set aside: signed by a key that is not trusted *' \
	on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 0 "and not shown"
expect "it is listed" 0 '*untrusted * 1 *' '' on laptop cspool-trust --list
expect "trust is a change" 0 '' '' on laptop cspool-trust relay.pub
expect "that is on its way" 0 '*trust-pending * 1 relay*' '' on laptop cspool-trust --list
is "$(on laptop count_messages)" 0 "and has no effect yet"
expect "sent" 0 '' '' on laptop pipe 'cspool-outbox | cspool-append && cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 1 "the mail that was set aside is delivered"
expect "the key is trusted" 0 '*trusted * 0 relay*' '' on laptop cspool-trust --list
expect "nothing is said where all was trusted in the end" 0 '' '' on desktop pipe 'cspool-fetch | cspool-apply'
is "$(on desktop count_messages)" 1 "on the other machine too"

expect "a key that is not trusted" 65 '' 'cspool-trust: AAAA: no trusted keys begin with it: cspool-trust --list' \
	on desktop cspool-trust --distrust AAAA
expect "all of them" 65 '' 'cspool-trust: : several trusted keys*' on desktop cspool-trust --distrust ''
expect "a file that is none" 66 '' 'cspool-trust: none.pub: no such file*' on desktop cspool-trust --distrust none.pub
key=$(on desktop cspool-trust --list | awk '$4 == "relay" { print substr($2, 1, 12) }')
expect "a key by its beginning" 0 '' '' on desktop cspool-trust --distrust "$key"
on desktop pipe 'cspool-outbox | cspool-append'
printf 'Subject: late\n\n1\n' | relayed
expect "mail after distrust is set aside" 65 '' 'cspool-apply: record 5 is set aside: *' \
	on laptop pipe 'cspool-fetch | cspool-apply'
is "$(on laptop count_messages)" 1 "what came before stays"

# A host cannot make itself trusted, nor change anything.
expect "a change by a host" 65 '' 'cspool-apply: record 6 is set aside: signed by a key that is not trusted *' \
	on laptop pipe 'cspool-trust relay.pub
	python3 - <<EOF
import sys
sys.path.insert(0, "'"$top"'/lib")
from cspool import frame, home, keys, record
from cspool.database import outbox, schema
with schema.opened(home.path("mail.db")) as db:
    body = next(outbox.bodies(db))
relay = keys.read_secret("relay", None)
sealed = record.seal(body, relay, keys.read_public(home.path("key.pub")))
open("forged", "wb").write(frame.encode(sealed) + frame.encode_end(1))
EOF
	cspool-append <forged && cspool-fetch | cspool-apply'
expect "a key that is none" 78 '' 'cspool-trust: forged: not a public key *' on laptop cspool-trust forged
expect "before the spool is known" 0 '' '' cspool-trust --db=new.db relay.pub
expect "nothing can be sent" 75 '' 'cspool-outbox: the spool is not known yet: *' \
	cspool-outbox --db=new.db --key="$HOME/laptop/key"
expect "until the first stream" 65 '' '*' pipe \
	"cspool-fetch --db=new.db ~/spool | cspool-apply --db=new.db --key=$HOME/laptop/key"
expect "then it goes out" 0 '' '' pipe "cspool-outbox --db=new.db --key=$HOME/laptop/key | cspool-append ~/spool"

done_testing
