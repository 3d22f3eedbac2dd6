"""Fuzz what reads hostile octets, guided by coverage. By hand: it needs atheris, and runs until it is stopped.

Usage: PYTHONPATH=lib:t python t/fuzz.py TARGET [OPTIONS OF LIBFUZZER]

A target is one of those in hostile.py.
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
