"""What all tools do in the same way."""

import ast
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import docopt
import pytest
from cspool import usage
from cspool.errors import Failure
from cspool.tool import Progress, complain, without_options
from hypothesis import given
from hypothesis import strategies as st


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, *calls, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "argv", ["cspool-apply"])
    progress = Progress()
    for one in calls:
        progress(*one)
    return stream.getvalue()


def test_long_work_is_shown_on_a_terminal(monkeypatch):
    calls = [(1000, 100_000), (2000, 100_000), (100_000, 100_000), (100_000, 100_000)]
    assert shown(Terminal(), *calls, monkeypatch=monkeypatch) == (
        "cspool-apply: 1,000 of 100,000\rcspool-apply: 2,000 of 100,000\rcspool-apply: 100,000 of 100,000\n"
    )


def test_short_work_is_not(monkeypatch):
    assert shown(Terminal(), (3, 3), (3, 3), monkeypatch=monkeypatch) == ""


def test_what_has_an_end_that_nobody_knows(monkeypatch):
    calls = [(1000, None), (2000, None), (2500, 2500)]
    assert shown(Terminal(), *calls, monkeypatch=monkeypatch) == (
        "cspool-apply: 1,000\rcspool-apply: 2,000\rcspool-apply: 2,500 of 2,500\n"
    )


def test_nor_is_any_in_a_log(monkeypatch):
    assert shown(io.StringIO(), (1000, 100_000), (100_000, 100_000), monkeypatch=monkeypatch) == ""


@given(st.text())
def test_what_a_stranger_says_does_nothing_to_the_terminal(text):
    stream = io.StringIO()
    before, sys.stderr = sys.stderr, stream
    try:
        complain(Failure(f"the server sends us elsewhere ({text})"))
    finally:
        sys.stderr = before
    assert stream.getvalue()[:-1].isprintable()


TOOLS = sorted((Path(__file__).parent.parent / "bin").iterdir())
WORDS = st.lists(
    st.sampled_from(
        [
            "a",
            "",
            "B",
            "--help",
            "--db=x",
            "-",
            "--",
            "-x",
            "SPOOL",
            "a=b",
            "--follow",
            "--preauth",
            "--repair",
            "--remote",
        ]
    ),
    max_size=4,
)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
@given(words=WORDS)
def test_docopt_says_the_same_of_what_is_read_without_it(tool, words):
    doc = ast.get_docstring(ast.parse(tool.read_text()), clean=False)
    plain = without_options(doc, words)
    if plain is not None:
        assert plain == docopt.docopt(doc, words, False)


@pytest.mark.parametrize(
    ("tool", "words"),
    [("seal", []), ("append", []), ("append", ["/var/spool/alice"]), ("fsck", ["spool"]), ("imapd", [])],
)
def test_docopt_is_not_needed_without_options(tool, words):
    doc = ast.get_docstring(ast.parse((TOOLS[0].parent / f"cspool-{tool}").read_text()), clean=False)
    assert without_options(doc, words) is not None


def usage_of(tool):
    return ast.get_docstring(ast.parse((TOOLS[0].parent / f"cspool-{tool}").read_text()), clean=False)


@pytest.mark.parametrize(
    ("tool", "words", "expected"),
    [
        ("mkspool", ["--", "spool"], {"SPOOL": "spool"}),
        ("mkspool", ["--", "--help"], {"SPOOL": "--help", "--help": False}),
        ("mkspool", ["--", "--"], {"SPOOL": "--"}),
        ("fsck", ["--quiet", "--", "-spool"], {"SPOOL": "-spool", "--quiet": True, "--repair": False}),
        ("append", ["--max-bytes=5", "--"], {"SPOOL": None, "--max-bytes": "5"}),
        ("aside", ["--discard=1", "--discard=2", "--"], {"--discard": ["1", "2"]}),
    ],
)
def test_two_dashes_end_the_options(tool, words, expected):
    assert expected.items() <= usage.read(usage_of(tool), words).items()


@pytest.mark.parametrize(
    ("tool", "words", "said"),
    [
        ("fetch", ["--folow"], "--folow: no such option: did you mean --follow?"),
        ("append", ["--max-byte=5", "--maxbytes=5"], "--maxbytes: no such option: did you mean --max-bytes?"),
        ("fsck", ["-x", "spool"], "-x: no such option: see --help"),
        (
            "fsck",
            ["--", "--quiet", "spool"],
            "usage: cspool-fsck [--repair] [--quiet] SPOOL or cspool-fsck --shared DIR1 DIR2",
        ),
        ("mkspool", ["--"], "usage: cspool-mkspool SPOOL"),
        ("sync", ["--exec"], "--exec: it needs a value: --exec=COMMAND"),
        ("sync", ["--quiet=1"], "--quiet: it takes no value"),
        ("seal", ["--m=1"], "--m: which one: --mailbox, --maildir, --mbox?"),
        ("keygen", ["--comment", "--", "--passphrase"], "--comment: it needs a value: --comment=TEXT"),
    ],
)
def test_what_is_wrong_with_a_command_line(tool, words, said):
    with pytest.raises(Failure) as failure:
        usage.read(usage_of(tool), words)
    assert (failure.value.code, str(failure.value)) == (64, said)


@pytest.mark.parametrize("command", ["cspool-fetch --after=0 spool", "cspool-seal --from=key --to=key.pub"])
def test_a_terminal_gets_no_stream(tmp_path, command):
    """A stream is no text, and a terminal would obey some of its octets: all tools go through `tool.stream`."""
    for words in (["cspool-keygen", "key"], ["cspool-mkspool", "spool"]):
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    controller, terminal = pty.openpty()
    try:
        done = subprocess.run(
            command.split(), cwd=tmp_path, input=b"x", stdout=terminal, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(terminal)
        os.close(controller)
    assert done.returncode == os.EX_USAGE
    assert b"standard output is a terminal, and this is no text: use a pipe or a file" in done.stderr
