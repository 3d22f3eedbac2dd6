"""What every tool does the same way: its usage, its one line of error, its exit code.

A tool ends with `tool.run(main, __doc__)`. The docstring is the usage that
docopt parses and the text of --help; `main(args)` returns an exit code, or
None for 0, and raises the errors of errors.py.
"""

import errno
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

from . import __version__
from .errors import Failure, UsageError, reason

Args = dict[str, Any]

# A full disk, a quota, a bad one, or no memory: somebody may mend it, and the
# mail server is to keep the mail until then.
TRANSIENT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
TRANSIENT |= {errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ENOLCK, errno.ETIMEDOUT}


def run(main: Callable[[Args], int | None], doc: str) -> None:
    """Run a tool and leave the process with its exit code, all output flushed."""
    _open_standard_files()
    try:
        code = main(_parse(doc)) or os.EX_OK
        if sys.stdout:
            sys.stdout.flush()
    except Failure as failure:
        code = complain(failure)
    except BrokenPipeError:
        code = os.EX_TEMPFAIL  # whoever read from us has died, and will say so
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
        # An upgrade half done: the mail server is to keep the mail until it is complete.
        code = complain(_failure(os.EX_TEMPFAIL, f"the Python module {error.name} is not installed"))
    except Exception as error:
        if os.environ.get("CSPOOL_DEBUG"):
            raise
        code = complain(bug(error))
    # Nothing is left to flush but what could not be written; an attempt at exit
    # would print a traceback, and taking the interpreter down costs time.
    os._exit(code)


def complain(failure: Failure) -> int:
    """Print the line of an error on standard error; return its exit code."""
    say(f"{name()}: {failure}")
    return failure.code


def say(line: str) -> None:
    """Print a line on standard error; where that is closed or a full disk, nobody hears it and the work goes on."""
    with suppress(OSError):
        if sys.stderr:  # print() would take standard output instead
            print(printable(line), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return a line for a terminal, with ? for what would do something else there: it may be a stranger's."""
    return "".join(c if c.isprintable() else "?" for c in text)


class Progress:
    """Says on standard error, if it is a terminal, how far a long work has come; called about once a second."""

    def __init__(self) -> None:
        self.begun = False

    def __call__(self, done: int, all_: int | None) -> None:
        """Say it; `all_` is None where nobody can know it, and as many as are done at the end."""
        more = all_ is None or done < all_
        if sys.stderr and sys.stderr.isatty() and (more or self.begun):
            shown = f"{done:,}" if all_ is None else f"{done:,} of {all_:,}"
            # Back to the start of the line, where an error would be written over it.
            print(f"{name()}: {shown}", end="\r" if more else "\n", file=sys.stderr, flush=True)
            self.begun = more


def number(option: str, text: str | None) -> int | None:
    """Return what an option that takes a number says, None where it is not given. Raises UsageError."""
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 20):
        raise UsageError(f"{option}={text}: not a number")
    return None if text is None else int(text)


def name() -> str:
    """Return the name that the tool was called by."""
    return os.path.basename(sys.argv[0])


def stdin() -> BinaryIO:
    """Return standard input for octets; empty where the caller closed it."""
    return sys.stdin.buffer if sys.stdin else open(os.devnull, "rb")


def stdout() -> BinaryIO:
    """Return standard output for octets. Raises Failure where the caller closed it."""
    if not sys.stdout:
        raise _failure(os.EX_IOERR, "standard output: closed")
    return sys.stdout.buffer


def nobody_reads(seconds: float) -> bool:
    """Wait so long, or less if standard output is a pipe that nobody reads any more; tell which it was."""
    watched = select.poll()
    watched.register(1, 0)
    return bool(watched.poll(seconds * 1000))


def os_error(error: OSError) -> Failure:
    """Return the Failure that stands for an error of the system."""
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
    """Return the Failure for a mistake in cspool: its place, but not its text, in which there may be mail."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "?"
    return _failure(os.EX_SOFTWARE, f"internal error: {type(error).__name__} at {place} (CSPOOL_DEBUG=1 shows more)")


def _failure(code: int, text: str) -> Failure:
    failure = Failure(text)
    failure.code = code
    return failure


# The command line


def _parse(doc: str) -> Args:
    """Return what the command line says; answer --help and --version."""
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
    """Return what docopt would return for a command line that has operands and no options; None for any other.

    A mail server starts tools like this for each message, and docopt takes
    about as long as Python itself to start. Only the first line of the usage
    is looked at: None where that demands an option, or repeats an operand.
    """
    usage = doc.partition("Usage: ")[2].partition("\n\n")[0]
    first = usage.split(usage.split()[0])[1]
    demanded, depth = "", 0  # what stands outside of brackets
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
    """Open what of 0, 1 and 2 the caller closed, lest a key or a log come to be one of them."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
