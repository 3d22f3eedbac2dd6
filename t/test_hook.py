"""cspool-sync --exec where the command cannot be run: mail comes all the same."""

import errno
import tempfile

import pytest
from cspool.hook import Hook


@pytest.mark.parametrize("failing", ["TemporaryFile", "/bin/sh"])
def test_a_command_that_cannot_be_run_stops_nothing(homes, monkeypatch, capsys, failing):
    laptop, mailhost = homes["laptop"], homes["mailhost"]
    hook = Hook("cat >ran", str(laptop.path / "mail.db"))
    mailhost.pipe("printf 'Subject: one\n\n1\n' | cspool-seal | cspool-append")
    laptop.pipe("cspool-sync")

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if failing == "TemporaryFile":
            patch.setattr(tempfile, "TemporaryFile", fail)
        else:
            patch.setattr("subprocess.Popen", fail)
        hook.look()
        hook.look()
    assert capsys.readouterr().err.count("--exec: no space left on device\n") == 1
    monkeypatch.chdir(laptop.path)
    mailhost.pipe("printf 'Subject: two\n\n1\n' | cspool-seal | cspool-append")
    laptop.pipe("cspool-sync")
    hook.look()
    hook.finish()
    assert '"new": 1' in (laptop.path / "ran").read_text()
