#!/bin/sh
# The command that a newcomer types: cspool lists the tools, shows their manuals, and runs them.
. "$(dirname "$0")/tap.sh"

expect "without arguments, it lists the tools" 0 'cspool [0-9]*Begin*  setup  *' '' cspool
is "$(grep -c '^  [a-z]' out)" "$(echo "$top"/bin/cspool-* | wc -w)" "each of them once"
expect "--help" 0 'List the tools *' '' cspool --help
expect "--version" 0 'cspool [0-9]*' '' cspool --version
expect "it runs a tool" 0 'cspool-sync [0-9]*' '' cspool sync --version
expect "by its whole name too" 0 'cspool-sync [0-9]*' '' cspool cspool-sync --version
expect "with its status and its line" 64 '' 'cspool-status: --ofline: no such option: did you mean --offline?' \
	cspool status --ofline
expect "its arguments are its own" 64 '' 'cspool-mkspool: usage: *' cspool mkspool
expect "an unknown tool" 64 '' 'cspool: stats: no such tool: did you mean status?' cspool stats
expect "one that is like no other" 64 '' 'cspool: xyzzy: no such tool: cspool lists them' cspool xyzzy
expect "an unknown option" 64 '' 'cspool: --halp: *see --help' cspool --halp

# man(1) here prints what it is given.
mkdir bin
printf '#!/bin/sh\necho "$@"\n' >bin/man
chmod +x bin/man
PATH=$scratch/bin:$PATH
expect "help opens the page of a tool" 0 '/*/cspool-sync.1' '' cspool help sync
expect "and of section 8" 0 '/*/cspool-imapd.8' '' cspool help cspool-imapd
expect "and other pages" 0 '/*/cspool-phone.7' '' cspool help phone
expect "and the first one" 0 '/*/cspool.7' '' cspool help
expect "of itself too" 0 '/*/cspool.7' '' cspool help help
expect "a pattern" 64 '' 'cspool: [*]: not the name of a page' cspool help '*'
expect "a page of no tool" 64 '' 'cspool: syng: no such tool: did you mean sync?' cspool help syng
rm bin/man
ln -s "$(command -v python3)" "$(command -v env)" bin
expect "without man(1), it prints the usage" 0 'Send what was changed*Usage: cspool-sync*' '' \
	env PATH="$scratch/bin" "$top/bin/cspool" help sync
PATH=${PATH#*:}

# Options that are wrong.
expect "an option without its value" 64 '' 'cspool-status: --db: it needs a value: --db=DB' cspool-status --db
expect "one with a value that it does not take" 64 '' 'cspool-status: --json: it takes no value' cspool-status --json=1
expect "a prefix of several" 64 '' 'cspool-seal: --m: which one: --mailbox, --maildir, --mbox?' cspool-seal --m=x

# Completions.
for shell in bash zsh fish; do
	expect "completions for $shell" 0 '*cspool-imapd*set-password*' '' cspool completion "$shell"
	if command -v "$shell" >/dev/null; then ok "which it can read" "$shell" -n out; fi
done
expect "for another shell" 64 '' 'cspool: csh: no completion for this shell: bash, zsh, fish' cspool completion csh
if command -v bash >/dev/null; then
	cspool completion bash >script.bash
	cat >complete <<-'EOF'
		. ./script.bash
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		compopt() { :; }
		_cspool "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
		echo "${COMPREPLY[*]}"
	EOF
	is "$(bash complete cspool st)" "status" "bash completes the name of a tool"
	is "$(bash complete cspool help ph)" "" "and no more than there are"
	is "$(bash complete cspool help st)" "status" "and the name of a page"
	is "$(bash complete cspool sync --q)" "--quiet" "and an option"
	is "$(bash complete cspool-sync --pat)" "--patient=" "also of a tool by itself"
	is "$(bash complete cspool-sync "fi")" "" "and leaves files to bash"
fi

done_testing
