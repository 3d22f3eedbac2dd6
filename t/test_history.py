"""What make bench remembers."""

import xml.etree.ElementTree as ET

import history


def test_runs_are_kept_and_drawn(tmp_path):
    path = tmp_path / "history"
    for factor in (1, 2, 1.5):
        rows = [("one", "seal & append", 0.01 * factor, "bare", 0.005), ("bulk", "alone", 1.0, None, None)]
        if factor == 1.5:
            rows.append(("imap", "new step", 0.1, "dovecot", 0.2))
        history.add(path, "0.1", 100, rows)
    runs = history.read(path)
    assert [run["steps"]["one seal & append"] for run in runs] == [2, 4, 3]
    drawn = ET.fromstring(history.picture(runs))  # it is well-formed
    lines = drawn.findall("{*}polyline")
    assert [len(line.get("points").split()) for line in lines] == [3, 1]
    assert [one.text for one in drawn.findall("{*}text")][1:] == ["one seal & append", "3.00", "imap new step", "0.50"]


def test_one_run_is_a_point(tmp_path):
    history.add(tmp_path / "history", "0.1", 1, [("a", "b", 1, "c", 2)])
    assert "polyline" in history.picture(history.read(tmp_path / "history"))
