"""Fuzz the readers of hostile octets, guided by coverage. Run by hand: it needs atheris, and does not end.

Usage: PYTHONPATH=lib:t python t/fuzz.py TARGET [OPTIONS OF LIBFUZZER]

TARGET is the name of a function in TARGETS of hostile.py.
"""

import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["cspool"]):
    import hostile


def main(target, *options):
    with tempfile.TemporaryDirectory() as directory:
        hostile.prepare(directory)
        atheris.Setup([sys.argv[0], *options], {one.__name__: one for one in hostile.TARGETS}[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
