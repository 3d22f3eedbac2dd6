"""Shared by the tests of the modules: the library of this tree, keys, homes, and real mail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "lib"))
os.environ["PATH"] = f"{TOP / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"

from cspool import keys

# What is checked of a change is the same each time; the long form looks elsewhere in each run.
settings.register_profile(
    "check", deadline=None, suppress_health_check=list(HealthCheck), max_examples=100, derandomize=True
)
settings.register_profile("long", parent=settings.get_profile("check"), max_examples=20_000, derandomize=False)
settings.load_profile("long" if os.environ.get("CSPOOL_LONG") else "check")


@pytest.fixture(scope="session")
def alice():
    return keys.SecretKey(b"a" * 32, "alice@laptop")


@pytest.fixture(scope="session")
def host():
    return keys.SecretKey(b"h" * 32, "mail@example.org")


@pytest.fixture(scope="session")
def corpus():
    """The files of real mail in CSPOOL_CORPUS; without it the test is skipped."""
    directory = os.environ.get("CSPOOL_CORPUS")
    if not directory:
        if os.environ.get("CSPOOL_NO_SKIP"):
            pytest.fail("must not be skipped: CSPOOL_CORPUS is not set")
        pytest.skip("CSPOOL_CORPUS is not set")
    files = sorted(Path(directory).rglob("*.eml"))
    assert files
    return files


class Home:
    """A home directory, and the tools run in it."""

    def __init__(self, path):
        self.path = path
        self.environment = {**os.environ, "CSPOOL_HOME": str(path)}

    def pipe(self, script, octets=b"", status=0):
        """Run a pipeline, check its status, and return its standard output."""
        done = subprocess.run(
            ["/bin/sh", "-c", script], input=octets, env=self.environment, capture_output=True, check=False
        )
        assert done.returncode == status, done.stderr.decode()
        return done.stdout


@pytest.fixture
def homes(tmp_path):
    """Alice's laptop and desktop, and her account on a mail host, with one spool."""
    made = {}
    for name in ("laptop", "desktop", "mailhost"):
        (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / name / "spool").write_text(f"{tmp_path}/spool\n")
        made[name] = Home(tmp_path / name)
    laptop, desktop, mailhost = made.values()
    laptop.pipe(f"cspool-mkspool {tmp_path}/spool && cspool-keygen {laptop.path}/key")
    mailhost.pipe(f"cspool-keygen {mailhost.path}/key && cp {laptop.path}/key.pub {mailhost.path}/recipient")
    desktop.pipe(f"cp {laptop.path}/key {laptop.path}/key.pub {desktop.path}")
    laptop.pipe(f"cspool-fetch | cspool-apply && cspool-trust {mailhost.path}/key.pub && cspool-outbox | cspool-append")
    return made
