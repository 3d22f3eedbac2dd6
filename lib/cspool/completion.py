"""Completions for shells, made from the usages in the docstrings of the tools."""

import re
import shlex
from collections.abc import Callable, Iterable
from typing import NamedTuple

_OPTION = re.compile(r"^  (--[a-z-]+)(=\S+)? +(\S.*(?:\n {4,}\S.*)*)", re.MULTILINE)


class Option(NamedTuple):
    """An option of a tool: its name with dashes, the name of its value or "", and what it does."""

    name: str
    value: str
    text: str


class Tool(NamedTuple):
    """A tool: its name without "cspool-", what it does, and its options."""

    name: str
    text: str
    options: list[Option]


def read(name: str, doc: str) -> Tool:
    """Return a tool by its name and the text of its --help."""
    options = doc.partition("\nOptions:\n")[2].partition("\n\n")[0]
    found = [
        Option(option, (value or "")[1:], " ".join(text.split())) for option, value, text in _OPTION.findall(options)
    ]
    return Tool(name, summary(doc), found)


def summary(doc: str) -> str:
    """Return what a tool does: the first line of its --help, as a part of a sentence."""
    first = doc.partition("\n")[0].rstrip(".")
    return first[:1].lower() + first[1:]


def bash(tools: list[Tool], commands: list[str]) -> str:
    """Return a script for bash; `commands` are what cspool takes beside the names of tools."""

    def words(tool: Tool) -> str:
        return " ".join(option.name + "=" * bool(option.value) for option in tool.options)

    cases = "".join(f"\tcspool-{one.name}) words='{words(one)}' ;;\n" for one in tools)
    names = " ".join([*commands, *(one.name for one in tools)])
    return f"""\
# Completion of cspool for bash.
_cspool() {{
	local words='' tool=${{COMP_WORDS[0]##*/}}
	if [ "$tool" = cspool ]; then
		tool=cspool-${{COMP_WORDS[1]}}
		[ "$COMP_CWORD" -gt 1 ] && [ "$tool" != cspool-help ] || tool=names
	fi
	case $tool in
	names) words='{names}' ;;
{cases}	esac
	if [ "$tool" = names ] || [ "${{2#-}}" != "$2" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$2")
		case ${{COMPREPLY[*]}} in *=) compopt -o nospace ;; esac
	fi
}}
complete -o default -F _cspool cspool {" ".join(f"cspool-{one.name}" for one in tools)}
"""


def zsh(tools: list[Tool], commands: list[str]) -> str:
    """Return a script for zsh."""

    def described(name: str, text: str) -> str:
        return shlex.quote(f"{name}:{text.replace(':', chr(92) + ':')}")

    def argument(option: Option) -> str:
        text = re.sub(r"([\[\]:\\])", r"\\\1", option.text)
        return shlex.quote(
            f"{option.name}{'=' if option.value else ''}[{text}]" + (":value:_files" * bool(option.value))
        )

    names = " ".join([*(described(one, "") for one in commands), *(described(one.name, one.text) for one in tools)])
    cases = "".join(
        f"\t{one.name}) _arguments {' '.join(argument(option) for option in one.options)} '*:file:_files' ;;\n"
        for one in tools
    )
    return f"""\
#compdef cspool {" ".join(f"cspool-{one.name}" for one in tools)}
# Completion of cspool for zsh.
local -a names
names=({names})
if [[ ${{words[1]:t}} == cspool ]]; then
	if (( CURRENT == 2 )) || [[ ${{words[2]}} == help ]]; then
		_describe tool names
		return
	fi
	shift words
	(( CURRENT-- ))
fi
case ${{${{words[1]:t}}#cspool-}} in
{cases}esac
"""


def fish(tools: list[Tool], commands: list[str]) -> str:
    """Return a script for fish."""
    lines = ["# Completion of cspool for fish."]

    def add(*words: str) -> None:
        lines.append(" ".join(["complete", *(_fish_quoted(word) for word in words)]))

    for name in commands:
        add("-c", "cspool", "-n", "__fish_use_subcommand", "-f", "-a", name)
    for one in tools:
        add("-c", "cspool", "-n", "__fish_use_subcommand", "-f", "-a", one.name, "-d", one.text)
        add("-c", "cspool", "-n", "__fish_seen_subcommand_from help", "-f", "-a", one.name, "-d", one.text)
        for option in one.options:
            rest = ["-l", option.name[2:], *(["-r"] if option.value else []), "-d", option.text]
            add("-c", f"cspool-{one.name}", *rest)
            add("-c", "cspool", "-n", f"__fish_seen_subcommand_from {one.name}", *rest)
    return "\n".join(lines) + "\n"


def _fish_quoted(word: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]+", word):
        return word
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[list[Tool], list[str]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def script(shell: str, tools: Iterable[Tool], commands: list[str]) -> str:
    """Return the script for a shell, one of SHELLS."""
    return SHELLS[shell](list(tools), commands)
