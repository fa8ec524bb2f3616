import json
import subprocess
import sys
import time

import pytest

from mpd.store import spent


@pytest.fixture
def clock(monkeypatch):
    """The clock by which a meter counts, set by hand."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_seconds_count_from_the_beginning(tmp_path, clock):
    meter = spent.Meter(tmp_path / "spent.json")
    clock[0] += 12.5
    found = meter.spent()
    assert (found["seconds"], found["device"]) == (12.5, "cpu")
    assert not (tmp_path / "spent.json").exists()


def test_what_a_stopped_process_saved_is_added(tmp_path, clock):
    first = spent.Meter(tmp_path / "spent.json")
    clock[0] += 10
    first.save()
    saved = json.loads((tmp_path / "spent.json").read_text())
    clock[0] += 5  # lost with the process
    second = spent.Meter(tmp_path / "spent.json")
    clock[0] += 3
    assert second.spent()["seconds"] == 13.0
    assert second.spent()["processor_seconds"] >= saved["processor_seconds"]
    assert [path.name for path in tmp_path.iterdir()] == ["spent.json"]


def test_a_torn_file_counts_for_nothing(tmp_path, clock):
    (tmp_path / "spent.json").write_text('{"seconds": 1')
    assert spent.Meter(tmp_path / "spent.json").spent()["seconds"] == 0.0


def test_peak_memory_is_the_larger_of_both_processes(tmp_path):
    (tmp_path / "spent.json").write_text('{"seconds": 1, "processor_seconds": 2, "peak_mb": 1e9}')
    assert spent.Meter(tmp_path / "spent.json").spent()["peak_mb"] == 1e9


def test_processor_seconds_and_memory_are_those_of_the_work():
    code = (
        "from pathlib import Path; from mpd.store import spent; import sys, time\n"
        "meter = spent.Meter(Path('none'))\n"
        "block = b'x' * 300_000_000\n"
        "start = time.process_time()\n"
        "while time.process_time() - start < 0.25: pass\n"
        "print(meter.spent()['processor_seconds'] >= 0.2, meter.spent()['peak_mb'] > 300)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False"]


def test_memory_of_a_gpu_is_there_where_one_is_used(tmp_path, monkeypatch):
    path = tmp_path / "spent.json"
    assert "peak_gpu_mb" not in spent.Meter(path).spent()
    monkeypatch.setattr(spent, "gpu_peak_bytes", lambda: 2_000_000_000)
    spent.Meter(path).save()
    monkeypatch.setattr(spent, "gpu_peak_bytes", lambda: 1_000_000_000)
    assert spent.Meter(path).spent()["peak_gpu_mb"] == 2000.0


def test_operations_are_those_of_the_artifact(tmp_path):
    spent.count_flops(5)  # for another artifact
    first = spent.Meter(tmp_path / "spent.json")
    assert "flops" not in first.spent()
    spent.count_flops(10**18)
    first.save()
    spent.count_flops(7)  # lost with the process
    second = spent.Meter(tmp_path / "spent.json")
    assert second.spent()["flops"] == 10**18
    spent.count_flops(2)
    assert second.spent()["flops"] == 10**18 + 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"seconds": 1', '{"seconds": "1"}', '{"seconds": -1}'),
        *('{"seconds": true}', '{"seconds": NaN}', '{"seconds": 1, "more": 2}', "flipped"),
    ],
)
def test_what_was_saved_is_named_where_it_is_damaged(tmp_path, caplog, text):
    path = tmp_path / "spent.json"
    spent.Meter(path).save()
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "seconds": 77}) if text == "flipped" else text)
    assert spent.Meter(path).spent()["seconds"] < 1
    assert caplog.messages == [
        f"{path} is damaged; what was spent before this process began is not counted"
    ]


def test_what_was_saved_goes_on_without_a_warning(tmp_path, caplog):
    path = tmp_path / "spent.json"
    spent.Meter(path).save()
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 7}))
    assert spent.Meter(path).spent()["seconds"] < 1
    path.write_text('{"seconds": 7}')  # of an earlier version
    assert spent.Meter(path).spent()["seconds"] >= 7
    assert len(caplog.messages) == 1
