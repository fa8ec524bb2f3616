"""Progress in a log: lines in a rhythm, with the speed and a sensible time left."""

import logging
import time

import pytest

from mpd.job import progress
from mpd.job.progress import Progress, duration
from mpd.store.spent import Meter


@pytest.fixture
def clock(monkeypatch):
    """A list whose only item is the time, in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_in_a_log(clock, caplog):
    caplog.set_level(logging.INFO, "mpd")
    shown = Progress("sampled", 10)
    clock[0] = 140.0  # weights were loaded: neither work nor speed
    shown.advance(0, 0)
    for _ in range(40):  # a batch of four, whose last token ends all of them
        clock[0] += 1
        shown.advance(0, 4)
    shown.advance(4, 0)
    clock[0] += 15
    shown.advance(1, 115)
    clock[0] += 45
    shown.advance(5, 125)
    assert caplog.messages == [
        "sampled: 0 of 10 sequences, 0 tokens",
        "sampled: 0 of 10 sequences, 60 tokens, 4 tokens/s",
        "sampled: 0 of 10 sequences, 120 tokens, 4 tokens/s",
        "sampled: 5 of 10 sequences, 275 tokens, 5 tokens/s, 55 s left",
        "sampled: 10 sequences, 400 tokens, 4 tokens/s",
    ]


def test_a_terminal_has_a_bar_and_one_last_line(clock, caplog, monkeypatch, capsys):
    caplog.set_level(logging.INFO, "mpd")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = Progress("trained", 4)
    shown.advance(2, 10)
    clock[0] += 20
    shown.advance(1, 16)
    shown.bar.refresh()
    assert "trained: 3/4 sequences, 26 tokens, 1 tokens/s, 20 s left" in capsys.readouterr().err
    shown.advance(1, 0)
    assert caplog.messages == ["trained: 4 sequences, 26 tokens, 1 tokens/s"]


@pytest.mark.parametrize(
    ("device", "use"),
    [
        ("NVIDIA H100 80GB HBM3", "400 TFLOP/s, MFU 0.40"),
        ("NVIDIA Future", "400 TFLOP/s"),
    ],
)
def test_a_gpu_has_its_use_in_the_line(clock, caplog, monkeypatch, device, use):
    caplog.set_level(logging.INFO, "mpd")
    monkeypatch.setattr(progress, "gpu_name", lambda: device)
    monkeypatch.setattr(progress, "gpu_peak_bytes", lambda: 25_120_000_000)
    shown = Progress("scored", 9)
    shown.advance(3, 1000, 10**18)  # whatever came before the first time that is known
    clock[0] += 20
    shown.advance(3, 4000, 8 * 10**15)
    clock[0] += 20
    shown.advance(3, 4000, 8 * 10**15)
    assert caplog.messages == [
        f"scored: 6 of 9 sequences, 5,000 tokens, 200 tokens/s, {use}, 20 s left",
        f"scored: 9 sequences, 9,000 tokens, 200 tokens/s, {use}, 25.1 GB of GPU memory",
    ]


def test_a_gpu_whose_work_is_not_counted_has_its_memory_alone(clock, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "mpd")
    monkeypatch.setattr(progress, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(progress, "gpu_peak_bytes", lambda: 10**9)
    shown = Progress("sampled", 2)
    shown.advance(1, 10)
    clock[0] += 10
    shown.advance(1, 10)
    assert caplog.messages == ["sampled: 2 sequences, 20 tokens, 1 tokens/s, 1.0 GB of GPU memory"]


def test_operations_are_counted_for_the_note(tmp_path):
    meter = Meter(tmp_path / "spent.json")
    shown = Progress("scored", 2)
    shown.advance(1, 10)
    assert "flops" not in meter.spent()
    shown.advance(1, 10, 500)
    assert meter.spent()["flops"] == 500


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89.0, "89 s"), (91.0, "2 min"), (3600.0, "1 h 0 min"), (12000.0, "3 h 20 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_job_that_makes_no_progress_says_so(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "mpd")
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.4)
    stuck, busy, ended = (Progress(name, 3) for name in ("stuck", "busy", "ended"))
    ended.advance(3, 1)
    stuck.advance(1, 5)
    for _ in range(12):
        time.sleep(0.1)
        busy.advance(0, 1)
    quiet = [message for message in caplog.messages if "no progress" in message]
    assert 1 <= len(quiet) <= 3
    assert all(message.startswith("stuck: no progress for ") for message in quiet)
    assert "after 1 of 3 sequences; if neither processor nor GPU is at work, end" in quiet[0]
