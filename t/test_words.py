"""Words that are gone from the project, because they had several meanings or have to be read twice.

A failure names the place and what to write instead. The words of cspool(7)
TERMS and those of the RFCs are the ones to use.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
SOURCES = sorted([*TOP.glob("lib/cspool/**/*.py"), *TOP.glob("bin/cspool*")])
TEXTS = [TOP / "README", TOP / "NEWS", *sorted(TOP.glob("man/*.[1578]"))]

# Names in code, whole or as a part between underscores: what each is called now.
NAMES = {
    "epoch": "checkpoint_end: the last record of a checkpoint",
    "place": "position, offset or mailbox",
    "news": "updates",
    "took": "confirm",
    "reissue": "requeue",
    "held": "aside (a record), or the name of what it is",
    "behead": "drop",
}
# Words in prose.
WORDS = {
    r"nobody|somebody|everybody|whoever": "name the party: the reader, the client, the operator",
    r"whatever|lest": "say which",
    r"(?:^|(?<=[.:] ))Of [a-z]": "no sentence begins with Of: begin with its subject",
    r"be it (?!erated)|in front of|as long as there is none": "whether, before, if there is none",
    r"Tell whether|tells? if": "Return whether",
}


def prose(path):
    """Yield (line, text) of each docstring, comment and message of a source, with its line breaks as spaces."""
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())


def names(path):
    """Yield (line, name) of all that a source defines: functions, classes, arguments, variables, attributes."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def manual(path):
    """Yield (line, text) of a manual, without what is typed at a prompt."""
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if not text.startswith(('.\\"', ".Dl")):
            yield number, text


def found(pairs):
    """Return what is wrong with these texts."""
    return [
        f"{line}: {match[0].strip()!r}: {instead}"
        for line, text in pairs
        for pattern, instead in WORDS.items()
        for match in re.finditer(rf"\b(?:{pattern})" if pattern[0] not in "(" else pattern, text)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources(path):
    assert not found(prose(path))
    gone = [
        f"{line}: {name}: {NAMES[part]}"
        for line, name in names(path)
        for part in name.lower().split("_")
        if part in NAMES
    ]
    assert not gone


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_texts(path):
    assert not found(manual(path))


def test_this_test_finds(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(
        '"""Tell whether nobody waits."""\n\n\ndef place(epoch):\n    # Of a message, its size.\n    return epoch\n'
    )
    assert len(found(prose(path))) == 3
    assert [name for _, name in names(path)] == ["place", "epoch"]
