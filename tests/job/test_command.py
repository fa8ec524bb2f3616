"""How a stage ends: in one sentence where the user can fix it, else in a traceback."""

import errno
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpd.config.compress import CompressSettings, NoRewrite, TeacherRewrite
from mpd.config.resources import GenerationResources
from mpd.job import command
from mpd.store.outputs import FileOutput

ADVICE = "free some space and run again: finished parts are kept"

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def levels():
    """The levels of the loggers as they were before."""
    loggers = [logging.getLogger(), logging.getLogger("mpd")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def raiser(error):
    def main():
        raise error

    return main


def sentence_of(error):
    with pytest.raises(SystemExit) as caught:
        command.run(raiser(error), "sample")
    return caught.value.code


def test_a_mistake_of_the_user_is_one_sentence():
    assert sentence_of(ValueError("a.jsonl: no such file")) == (
        "sample: error: a.jsonl: no such file"
    )


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "rows.parquet"),
            "[Errno 28] No space left on device: 'rows.parquet'",
        ),
        (
            OSError(errno.EFBIG, os.strerror(errno.EFBIG), "rows.parquet"),
            "[Errno 27] File too large: 'rows.parquet'",
        ),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error)"),
            "Error while serializing: I/O error: No space left on device (os error)",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
            "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534",
        ),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\nat"),
            "PytorchStreamWriter failed writing file data/0: file write failed",
        ),
    ],
)
def test_a_full_disk_is_one_sentence(error, cause, monkeypatch):
    monkeypatch.setattr(command, "room_left", lambda *folders: "0.0 MB in /tmp")
    expected = f"no room to write ({cause}); left are 0.0 MB in /tmp: {ADVICE}"
    assert sentence_of(error) == f"sample: error: {expected}"


def test_a_full_disk_is_looked_for_at_output_and_store(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "room_left", lambda *folders: asked.append(folders) or "")
    for argv in ([], ["--output", "a/b.parquet"], ["--store", "c", "--output", "b.parquet"]):
        monkeypatch.setattr(sys, "argv", ["prog", *argv])
        sentence_of(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    store = Path("results/store")
    assert asked == [(store,), (Path("a"), store), (Path(), Path("c"))]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes do not match"),
        OSError(errno.EACCES, os.strerror(errno.EACCES)),
        KeyError("gold"),
        RuntimeError(),
    ],
)
def test_another_error_keeps_its_traceback(error):
    with pytest.raises(type(error)) as caught:
        command.run(raiser(error), "sample")
    assert caught.value is error


def save_too_much(path, kind):
    """What torch or safetensors raise where no file can grow beyond 20 kB."""
    import resource

    import torch
    from safetensors.torch import save_file

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    tensors = {"weights": torch.zeros(100_000)}
    save = {"torch": torch.save, "safetensors": save_file}[kind]
    command.run(lambda: save(tensors, path), "distill")


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_what_the_libraries_really_raise_is_known(tmp_path, kind):
    code = (
        "import sys; from tests.job import test_command; test_command.save_too_much(*sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "weights"), kind],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("distill: error: no room to write (")
    assert re.search(rf"\); left are [\d,.]+ MB in /.*: {ADVICE}\n$", done.stderr)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "output", "label"),
    [
        (
            "sample",
            "mpd/seed_0/round_1/sample/shard_3.parquet",
            "sample mpd/seed_0/round_1/shard_3",
        ),
        ("distill", "mpd/seed_0/round_1/student/manifest.json", "distill mpd/seed_0/round_1"),
        ("answers", "mpd/seed_0/round_1/answers", "answers mpd/seed_0/round_1"),
        ("evaluate", "mpd/seed_0/round_1/evaluate", "evaluate mpd/seed_0/round_1"),
        ("models", "models/student_seed_0/manifest.json", "models student_seed_0"),
        ("problems", "problems/eval/greedy.parquet", "problems eval/greedy"),
        ("problems", "problems/train", "problems train"),
        ("report", "report.html", "report"),
    ],
)
def test_a_job_names_its_place_in_its_log(name, output, label):
    assert command.label(name, ["prog", "--output", f"results/tiny/{output}"]) == label


def test_a_job_of_several_shards_names_the_first_and_the_last():
    outputs = [
        f"results/tiny/mpd/seed_0/round_1/sample/shard_{number}.parquet" for number in (3, 4)
    ]
    words = ["prog", "--output", *outputs, "--store", "here"]
    assert command.label("sample", words) == "sample mpd/seed_0/round_1/shard_3 to shard_4"


def test_a_command_without_a_place_has_its_name():
    assert command.label("why", ["prog", "results/tiny/report.html"]) == "why"
    assert command.label("sample", ["prog", "--output", "elsewhere/shard_0.parquet"]) == "sample"
    assert command.label("sample", ["prog", "--output"]) == "sample"


def test_a_reader_that_closes_the_pipe_is_no_error():
    printed = (
        "from mpd.job import command; command.view(lambda: print('line\\n' * 100_000), 'store')"
    )
    script = f'{sys.executable} -c "{printed}" | head -n 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("line\n0\n", "")


def test_a_stage_explains_itself_on_request(tmp_path, capsys):
    def outputs(arguments):
        yield FileOutput("page", 1, arguments.output, {}, {}, lambda path: path.write_text("page"))

    def publish(mode):
        parser = command.parser("a page", "page", NoRewrite)
        words = ["--settings", '{"rewriter": "none"}', "--output", str(tmp_path / "page.html")]
        command.publish(
            parser, outputs, [*words, "--store", str(tmp_path / "store"), "--mode", mode]
        )
        return capsys.readouterr().out

    where = f"{tmp_path / 'page.html'}: page is"
    assert publish("explain") == f"{where} not in the store\n"
    assert list(tmp_path.iterdir()) == []
    assert publish("reuse") == ""
    assert publish("explain") == f"{where} in the store\n"


def parsed(*words):
    """The arguments of the stage compress."""
    parser = command.parser("rewrites", "compress", CompressSettings, GenerationResources)
    return parser.parse_args(["--output", "rows.parquet", *words])


def test_settings_are_the_model_of_their_kind():
    rewriting = parsed("--settings", '{"rewriter": "teacher", "prompt": "shorter", "seed": 3}')
    assert rewriting.settings == TeacherRewrite(rewriter="teacher", prompt="shorter", seed=3)
    assert parsed("--settings", '{"rewriter": "none"}').settings == NoRewrite(rewriter="none")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--settings", "{"], "argument --settings: no JSON (Expecting property name"),
        (["--settings", '{"rewriter": "me"}'], "argument --settings: Input tag 'me' found using"),
        (
            ["--settings", '{"rewriter": "teacher", "prompt": "", "sed": 1, "temperature": -1}'],
            "argument --settings: temperature: Input should be greater than or equal to 0, found "
            "-1; sed: unknown key; did you mean seed?; see --help",
        ),
        (
            ["--settings", '{"rewriter": "none", "chat": {"opn": ""}}'],
            "argument --settings: chat.opn: unknown key; did you mean open?; see --help",
        ),
        (
            ["--settings", '{"rewriter": "teacher"}'],
            "argument --settings: prompt: this key is required; see --help",
        ),
        (
            ["--settings", '{"rewriter": "none"}', "--resources", '{"batchsize": 1}'],
            "argument --resources: batchsize: unknown key; did you mean batch_size?; see --help",
        ),
        (["--setings", "{}"], "the following arguments are required: --settings; see --help"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(words, sentence):
    with pytest.raises(ValueError) as caught:
        parsed(*words)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_resources_are_those_of_the_configuration_unless_given():
    settings = ["--settings", '{"rewriter": "none"}']
    assert command.resources_of(parsed(*settings)) == GenerationResources()
    few = command.resources_of(parsed(*settings, "--resources", '{"threads": 4, "batch_size": 2}'))
    assert few == GenerationResources(threads=4, batch_size=2)
    # A scheduler may have fewer threads than the job may use.
    words = ["--resources", '{"threads": 4}', "--threads", "3"]
    assert command.resources_of(parsed(*settings, *words)) == GenerationResources(threads=3)


def test_help_has_the_keys_of_settings_and_resources(capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    lines = " ".join(capsys.readouterr().out.split())
    for words in (
        "Settings for rewriting.",
        "temperature (number, at least 0; 1.0): sampling temperature; 0: greedy "
        "[compress.temperature]",
        "prompt (text; required): user message; {problem} and {trajectory} are filled in "
        "[compress.prompt or compress.refine or compress.structure]",
        'chat.open (text; "<think>\\n"): text before the reasoning [chat.open]',
        "seed (integer, at least 0, below 4294967296 or text; 0): seed of the branch; for "
        "structural rationales also the round, such as 0.2 [seed of the branch]",
        "Settings for methods without rewriting.",
        "Resources of a job that generates.",
        "batch_size (integer, at least 1; 64): sequences generated side by side",
    ):
        assert words in lines
