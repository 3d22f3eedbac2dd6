"""What all tools share: reading the command line, the line that reports an error, and the exit code.

A tool ends with `tool.run(main, __doc__)`. The docstring is the text of --help
and the usage that docopt parses. `main(args)` returns an exit code, or None for
0, and raises the errors of errors.py.
"""

import errno
import io
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn

from . import __version__
from .errors import Failure, UsageError, reason

Args = dict[str, Any]

# A disk that is full, over its quota or broken, or a lack of memory: the
# operator can repair it, and the mail server must keep the mail until then.
TRANSIENT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
TRANSIENT |= {errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ENOLCK, errno.ETIMEDOUT}


def run(main: Callable[[Args], int | None], doc: str) -> None:
    """Run a tool, flush its output, and end the process with its exit code."""
    _open_standard_files()
    end(lambda: main(_parse(doc)))


def run_words(main: Callable[[list[str]], int | None]) -> None:
    """Run a tool that reads the words of its command line itself."""
    _open_standard_files()
    end(lambda: main(sys.argv[1:]))


def end(work: Callable[[], int | None]) -> NoReturn:
    """End the process with what `work` returns, or with the code of the error that it raises, which is reported."""
    try:
        code = work() or os.EX_OK
        sys.stdout.flush()
    except Failure as failure:
        code = complain(failure)
    except BrokenPipeError:
        code = os.EX_TEMPFAIL  # the reader of our output has ended, and reports why
    except OSError as error:
        code = complain(os_error(error))
    except MemoryError:
        code = complain(_failure(os.EX_TEMPFAIL, "out of memory"))
    except KeyboardInterrupt:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        code = os.EX_TEMPFAIL
    except ModuleNotFoundError as error:
        # An upgrade is half done: the mail server must keep the mail until it is complete.
        code = complain(_failure(os.EX_TEMPFAIL, f"the Python module {error.name} is not installed"))
    except Exception as error:
        if os.environ.get("CSPOOL_DEBUG"):
            raise
        code = complain(bug(error))
    # All output that can be written is flushed. A normal exit would try the rest
    # again and print a traceback, and it takes longer.
    os._exit(code)


def complain(failure: Failure) -> int:
    """Report a failure on standard error; return its exit code."""
    say(f"{name()}: {failure}")
    return failure.code


def say(line: str) -> None:
    """Print a line on standard error. If that is closed or cannot be written, the line is lost, and no error raised."""
    with suppress(OSError):
        if sys.stderr:  # print() would write to standard output instead
            print(printable(line), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return `text` with ? for each unprintable character: a text from a stranger must not control the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


class Progress:
    """Shows the progress of long work on standard error, if that is a terminal. To be called about once a second."""

    def __init__(self) -> None:
        self.begun = False
        self._due = time.monotonic() + 1

    def tick(self, done: int, all_: int | None = None) -> None:
        """Show it if a second has passed since the last time: to be called for each item."""
        if time.monotonic() > self._due:
            self(done, all_)
            self._due = time.monotonic() + 1

    def __call__(self, done: int, all_: int | None) -> None:
        """Show how many of `all_` items are done. `all_` is None while it is unknown, and `done` at the end."""
        more = all_ is None or done < all_
        if sys.stderr and sys.stderr.isatty() and (more or self.begun):
            shown = f"{done:,}" if all_ is None else f"{done:,} of {all_:,}"
            # Back to the start of the line, so that an error overwrites it.
            print(f"{name()}: {shown}", end="\r" if more else "\n", file=sys.stderr, flush=True)
            self.begun = more


def number(option: str, text: str | None, least: int = 0) -> int | None:
    """Return the value of an option that takes a number, or None if it is not given. Raises UsageError."""
    if text is not None and text.isascii() and text.isdigit() and int(text[:20]) < least:
        raise UsageError(f"{option}={text}: at least {least}")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 20):
        raise UsageError(f"{option}={text}: not a number")
    return None if text is None else int(text)


def name() -> str:
    """Return the name by which the tool was called."""
    return os.path.basename(sys.argv[0])


def stdin() -> BinaryIO:
    """Return standard input as a binary file, which is empty if the caller closed it."""
    return sys.stdin.buffer if sys.stdin else open(os.devnull, "rb")


def stdout() -> BinaryIO:
    """Return standard output as a binary file. Raises Failure if the caller closed it."""
    if isinstance(sys.stdout, _Closed):
        sys.stdout.write("")
    return sys.stdout.buffer


def stream() -> BinaryIO:
    """Return standard output for a stream of frames. Raises UsageError for a terminal, which could obey its octets."""
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal, and this is no text: use a pipe or a file")
    return stdout()


class _Closed(io.TextIOBase):
    """Stands for a standard output that the caller closed: what a tool prints there is lost, which is no success."""

    def write(self, text: str, /) -> int:
        raise _failure(os.EX_IOERR, "standard output: closed")


def is_alone(seconds: float, until_eof: bool = False) -> bool:
    """Wait up to `seconds`; return True at once when the reader of standard output, a pipe, is gone.

    With `until_eof` also when the writer of standard input, a pipe, is gone.
    """
    watched = select.poll()
    for fd in (1, 0) if until_eof else (1,):
        watched.register(fd, 0)
    return bool(watched.poll(seconds * 1000))


def os_error(error: OSError) -> Failure:
    """Return the Failure for an error of the system."""
    line = reason(error)
    if error.filename is not None:
        line = f"{os.fsdecode(error.filename)}: {line}"
    if error.errno in TRANSIENT:
        return _failure(os.EX_TEMPFAIL, line)
    if error.errno in (errno.EACCES, errno.EPERM):
        return _failure(os.EX_NOPERM, line)
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return _failure(os.EX_NOINPUT, line)
    return _failure(os.EX_IOERR, line)


def bug(error: Exception) -> Failure:
    """Return the Failure for a bug in cspool. It has the source line, but not the error's text, which may hold mail."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    source = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"
    return _failure(os.EX_SOFTWARE, f"internal error: {type(error).__name__} at {source} (CSPOOL_DEBUG=1 shows more)")


def _failure(code: int, text: str) -> Failure:
    failure = Failure(text)
    failure.code = code
    return failure


# The command line


def _parse(doc: str) -> Args:
    """Return the options and operands of the command line. For --help and --version, print and exit."""
    words = sys.argv[1:]
    args = without_options(doc, words)
    if args is None:
        from . import usage

        args = usage.read(doc, words)
    if args.get("--help"):
        print(doc.strip())
    elif args.get("--version"):
        print(name(), __version__)
    else:
        return args
    sys.stdout.flush()
    os._exit(os.EX_OK)


def without_options(doc: str, words: list[str]) -> Args | None:
    """Return what docopt would return for a command line of operands alone; None if docopt must read it.

    A mail server starts a tool in this way for each message, and docopt takes
    as long to start as Python itself. Only the first line of the usage is read.
    docopt must read the command line if that line requires an option, if
    anything may repeat, or if the operands do not fit.
    """
    usage = doc.partition("Usage: ")[2].partition("\n\n")[0]
    first = usage.split(usage.split()[0])[1]
    demanded, depth = "", 0  # the words outside brackets
    for character in first:
        depth += character == "["
        demanded += "" if depth else character
        depth -= character == "]"
    operands = [word.strip("[]") for word in first.split() if word.strip("[]").isupper()]
    if "--" in demanded or "..." in usage or any(word.startswith("-") for word in words):
        return None
    if not len(demanded.split()) <= len(words) <= len(operands):
        return None
    args: Args = {}
    for word in usage.replace("|", " ").split():
        option, has_value, _ = word.strip("[]()").partition("=")
        if option.startswith("--"):
            args[option] = None if has_value else False
        elif option.isupper():
            args[option] = None
    return args | dict(zip(operands, words, strict=False))


def _open_standard_files() -> None:
    """Open each of 0, 1 and 2 that the caller closed, so that no key and no log gets one of these descriptors.

    What cannot be written to standard output is an error, and what cannot be printed there is not.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if not sys.stdout:
        sys.stdout = _Closed()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name that the locale cannot print has a ? in it
