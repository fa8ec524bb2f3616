import json
import subprocess
import sys
import time
from typing import ClassVar

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


class Cards:
    """NVML with two cards, in place of the package pynvml; the second one has only a UUID."""

    class NVMLError(Exception):
        """That of NVML."""

    energy: ClassVar = {0: 5_000, "GPU-1": 70_000}  # mJ

    @staticmethod
    def nvmlInit():
        pass

    nvmlShutdown = nvmlInit
    nvmlDeviceGetHandleByIndex = staticmethod(int)
    nvmlDeviceGetHandleByUUID = staticmethod(str)

    @classmethod
    def nvmlDeviceGetTotalEnergyConsumption(cls, handle):
        if handle not in cls.energy:
            raise cls.NVMLError
        return cls.energy[handle]


@pytest.fixture
def cards(monkeypatch):
    """A process that uses both of two GPUs; returns what they have used so far, to be changed."""
    energy = {0: 5_000, "GPU-1": 70_000}
    monkeypatch.setattr(Cards, "energy", energy)
    monkeypatch.setitem(sys.modules, "pynvml", Cards)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, GPU-1")
    monkeypatch.setattr(spent, "gpu_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(spent, "gpu_peak_bytes", lambda: 0)
    return energy


def test_energy_is_what_the_cards_used_since_the_beginning(tmp_path, cards):
    meter = spent.Meter(tmp_path / "spent.json")
    cards[0] += 1_500
    cards["GPU-1"] += 2_000
    found = meter.spent()
    assert (found["gpus"], found["joules"], found["device"]) == (2, 3.5, "NVIDIA H200")


def test_energy_of_a_stopped_process_is_added_where_it_is_known(tmp_path, cards):
    path = tmp_path / "spent.json"
    first = spent.Meter(path)
    cards[0] += 1_000
    first.save()
    cards[0] += 99_000  # of others, between the two
    second = spent.Meter(path)
    cards[0] += 500
    assert second.spent()["joules"] == 1.5
    path.write_text('{"seconds": 7}')  # before energy was measured
    unknown = spent.Meter(path).spent()
    assert unknown["gpus"] == 2
    assert "joules" not in unknown


@pytest.mark.parametrize("case", ["package", "card", "driver", "unnamed", "unused"])
def test_energy_that_nothing_tells_is_left_out(tmp_path, cards, monkeypatch, case):
    if case == "package":
        monkeypatch.setitem(sys.modules, "pynvml", None)
    elif case == "card":
        del cards[0]
    elif case == "driver":
        monkeypatch.setattr(Cards, "nvmlInit", lambda: Cards.nvmlDeviceGetTotalEnergyConsumption(3))
    elif case == "unnamed":
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setattr(spent, "gpu_name", lambda: None)
    found = spent.Meter(tmp_path / "spent.json").spent()
    assert "joules" not in found
    assert ("gpus" in found) == (case not in ("unnamed", "unused"))
