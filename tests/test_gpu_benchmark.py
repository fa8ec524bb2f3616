"""The benchmarks of a GPU, tried on the CPU: one failure costs one row, and figures are right."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_house import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
STARTED = {"name": "job", "starts": [{"imported": 0.5, "ready": 1, "step": 2}]}
PROGRAMS = {
    "good": f"import sys; sys.stdin.readline(); print('noise'); print({json.dumps(STARTED)!r})",
    "broken": "raise ValueError('no such | kernel')",
    "hanging": "import time; time.sleep(60)",
}


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder of the programs, from which they import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def run(tmp_path, monkeypatch, *options):
    import gpu

    out = tmp_path / "gpu"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--out", str(out), *options])
    gpu.main()
    return json.loads(out.with_suffix(".json").read_text())["results"], out.with_suffix(".md")


def test_one_failure_costs_one_row(benchmarks, monkeypatch, tmp_path):
    import gpu

    scripts = {}
    for name, text in PROGRAMS.items():
        scripts[name] = tmp_path / f"{name}.py"
        scripts[name].write_text(text)

    def measurements(arguments):
        return [
            gpu.Measurement("start-training", str(scripts["good"])),
            gpu.Measurement("kernels-none", str(scripts["broken"])),
            gpu.Measurement("distill-long", str(scripts["hanging"]), seconds=1),
            gpu.Measurement("start-scoring", str(scripts["good"]), alone=True),
        ]

    monkeypatch.setattr(gpu, "measurements", measurements)
    start = time.monotonic()
    results, table = run(tmp_path, monkeypatch, "--shape", "tiny")
    assert time.monotonic() - start < 30
    for name in ("start-training", "start-scoring"):
        assert results[name]["starts"] == STARTED["starts"]
    assert "no such | kernel" in results["kernels-none"]["failed"]
    assert "ran longer than 1 s" in results["distill-long"]["failed"]
    assert "no such / kernel" in table.read_text()


def test_nothing_starts_when_the_time_is_up(benchmarks, monkeypatch, tmp_path):
    with pytest.raises(SystemExit):
        run(tmp_path, monkeypatch, "--shape", "tiny", "--only", "card", "equal", "--limit", "0")
    results = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert {result["failed"] for result in results.values()} == {"not run: the time was up"}


def test_tiny_models_are_trained_and_scored(tmp_path):
    out = tmp_path / "gpu"
    names = ["card", "distill-short", "distill-long", "score"]
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--shape", "tiny"]
    command += ["--repeats", "1", "--out", str(out), "--commit", "abc", "--only", *names]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    results = json.loads(out.with_suffix(".json").read_text())["results"]
    assert list(results) == names
    for name in names[1:]:
        result = results[name]
        assert 0 < result["mfu"] < 2
        assert result["tokens"] > 0
        assert result["matrix_tflops"] == pytest.approx(results["card"]["matrix_tflops"], abs=0.01)
    assert results["distill-short"]["loss"] > 0
    text = out.with_suffix(".md").read_text()
    assert "commit abc" in text
    assert "scoring, teacher beside student" in text


def test_tables_have_the_aims_that_were_measured(benchmarks):
    import gpu_report

    step = {"seconds": [2.0, 1.0, 4.0], "tokens": 6000, "mfu": 0.48, "peak_gb": 60.0}
    results = {"distill-short": step, "sft-short": {**step, "seconds": [1.0]}}
    text = gpu_report.document({"commit": "abc", "date": "", "shape": "", "command": ""}, results)
    assert "| distill, short: MFU | ≥ 0.5 | 0.48 | no |" in text
    assert "| distill against supervised fine-tuning: speed | ≥ 0.97 | 0.5 | no |" in text
    assert "| 2.000 (1.000 to 4.000) | 3,000 | 0.480 | 60.0 |" in text
    assert "TRL: speed" not in text


def test_idle_time_is_what_no_kernel_covers(benchmarks):
    import kernels

    trace = [
        ("nvjet_tst_192x192_64x4", 0, 500e3),
        ("void flash_fwd_kernel", 400e3, 800e3),
        ("Memcpy DtoD", 900e3, 950e3),
        ("vectorized_elementwise_kernel", 900e3, 950e3),
    ]
    summary = kernels.summary(trace, 1.0)
    assert summary["idle_share"] == pytest.approx(0.15)
    assert summary["kinds"]["matrix products"] == pytest.approx(0.5)
    assert summary["kinds"]["attention"] == pytest.approx(0.4)
    assert summary["kinds"]["copies, casts"] == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["tiny", "smollm2-135m"])
def test_tokenizers_have_every_token_of_a_shape(benchmarks, name):
    import random_models
    import shapes

    num_tokens = shapes.SHAPES[name].num_tokens
    tokenizer = random_models.tokenizer_of(num_tokens)
    assert sorted(tokenizer.get_vocab().values()) == list(range(num_tokens))
    assert tokenizer.decode(tokenizer("1 + 2 = é")["input_ids"]) == "1 + 2 = é"


def test_weights_are_made_where_a_folder_has_none(benchmarks, monkeypatch, tmp_path):
    import random_models
    import torch
    from transformers import AutoModelForCausalLM

    from mpd.store.model_folder import load_model

    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", AutoModelForCausalLM.from_pretrained
    )
    random_models.make_weights_when_loading()
    folder = random_models.write_model(tmp_path / "tiny", "tiny")
    assert not list(Path(folder).glob("*.safetensors"))
    wide, narrow = (load_model(folder, dtype) for dtype in ("float32", "bfloat16"))
    assert wide.lm_head.weight.dtype == torch.float32
    assert torch.equal(wide.lm_head.weight, narrow.lm_head.weight.float())
