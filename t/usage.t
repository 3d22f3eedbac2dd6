#!/bin/sh
# Every tool: --help, --version, nonsense, and a manual page with the same options and synopsis.
. "$(dirname "$0")/tap.sh"

cspool >list

options() { grep -oE -- '--[a-z-]+' | sort -u | tr '\n' ' '; }

for tool in "$top"/bin/cspool-*; do
	name=$(basename "$tool")
	page=$(echo "$top/man/$name".*)
	expect "$name --help" 0 "*Usage: $name *--version*" '' "$name" --help
	is "$(sed -n 's/^  \(--[a-z-]*\).*/\1/p' out | options)" \
		"$(sed -n 's/^\.It Fl -\([a-z-]*\).*/--\1/p' "$page" | options)" "$name(1): the options of the usage"
	is "$(sed -n '/^Usage:/,/^$/p' out | options)" \
		"$(sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESCRIPTION/p' "$page" | sed 's/Fl -\([a-z]\)/--\1/g; s/| -version/--version/; s/| \(-[a-z]\)/-\1/g' | options)" \
		"$name(1): the synopsis of the usage"
	expect "$name --version" 0 "$name [0-9]*.[0-9]*" '' "$name" --version
	expect "$name --nonsense" 64 '' "$name: --nonsense: no such option: see --help" "$name" --nonsense
	expect "$name --helf" 64 '' "$name: --helf: no such option: did you mean --help?" "$name" --helf
	expect "$name --nonsense, and nobody hears" 64 '' '' pipe "$name --nonsense 2>&-"
	expect "$name --nonsense, no room for the line" 64 '' '' pipe "$name --nonsense 2>/dev/full"
	expect "$name a b c" 64 '' "$name: usage: $name*" "$name" a b c
	expect "$name -- a b c" 64 '' "$name: usage: $name*" "$name" -- a b c
	expect "$name --help, nobody reads" 75 '' '' to_nobody "$name" --help
	expect "$name --help, standard output closed" 74 '' "$name: standard output: closed" pipe "$name --help >&-"
	expect "$name --help, no room" 75 '' "$name: no space left on device" pipe "$name --help >/dev/full"
	ok "$name: in what cspool lists" grep -q "^  ${name#cspool-} " list
	ok "$name: in cspool(7)" grep -q "^\.It Xr $name " "$top/man/cspool.7"
done

shown=$(grep -A1 '^\.It Shown' "$top/man/cspool-security.7" | grep -oE '[a-z_]+\.(t|py)')
ok "cspool-security(7) names the tests that show it" test "$(echo "$shown" | wc -l)" -gt 20
is "$(cd "$here" && for file in $shown; do [ -e "$file" ] || echo "$file"; done)" "" "and all of them are there"

done_testing
