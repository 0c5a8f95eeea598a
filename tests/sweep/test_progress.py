"""The line that says how far a sweep is, on a clock of the test's own."""

from __future__ import annotations

from tfbnas.sweep.progress import Progress


def test_counts_and_estimates():
    now = [0.0]
    progress = Progress(clock=lambda: now[0])
    statuses = {"a": "running", "b": "running", "c": "waiting", "d": "waiting"}
    assert progress.update(statuses) == "sweep: 0 of 4 trials done, running a, b"
    assert progress.update(dict(statuses)) is None
    now[0] = 100.0
    statuses |= {"a": "finished", "c": "running"}
    # b has run as long as a took; c needs 100 s, d as well: on two workers 100 s.
    assert progress.update(statuses) == "sweep: 1 of 4 trials done, running b, c, about 1 min 40 s left"
    now[0] = 150.0
    statuses |= {"b": "failed", "d": "running"}
    # c needs 50 s more, d 100 s: a failed trial says nothing of how long one takes.
    assert progress.update(statuses) == "sweep: 1 of 4 trials done, 1 failed, running c, d, about 1 min 40 s left"
    statuses |= {"c": "finished", "d": "finished"}
    assert progress.update(statuses) == "sweep: 3 of 4 trials done, 1 failed"


def test_times_of_earlier_processes_serve_until_there_are_own_ones():
    progress = Progress({"a": 60.0}, clock=lambda: 0.0)
    assert "about 2 min 00 s left" in progress.update({"a": "finished", "b": "running", "c": "waiting"})
