"""Where MPD runs: others' folders, no home, odd paths, terminals and locales without UTF-8."""

import ast
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import yaml

from mpd import problems
from mpd.config.problems import Source
from mpd.job import places
from mpd.job.preflight import check_folder
from mpd.store.schema.__main__ import artifact_reference
from mpd.text import given
from mpd.text.questions import problem_id
from tests.ordinary import ORDINARY
from tests.workflow.project import ENVIRONMENT, REPOSITORY, WORLD, Project, merged

# Every file is ASCII to a Python that is started so, and so is the terminal.
ASCII = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ODD = "a 'ü' \"b\" 50% *?#&;"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The environment of a process: HOME in `tmp_path`, and a folder for temporary files."""
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name.lower()).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("LOGNAME", "somebody")
    hugging_face = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE")
    for name in ("XDG_CACHE_HOME", "HF_TOKEN_PATH", "NETRC", *hugging_face):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "file").touch()  # in which nobody can make a folder
    return tmp_path


def test_a_home_that_can_be_written_stays(world, caplog):
    before = dict(os.environ)
    places.settle()
    assert dict(os.environ) == before
    assert list(world.joinpath("tmpdir").iterdir()) == caplog.messages == []


@pytest.mark.parametrize(
    ("changed", "blocked"),
    [
        ({"HOME": "file/home"}, "file/home"),
        ({"HOME": "file"}, "file"),
        ({"XDG_CACHE_HOME": "file/cache"}, "file/cache"),
    ],
)
def test_another_home_takes_the_place_of_one_that_cannot(
    world, monkeypatch, caplog, changed, blocked
):
    for name, path in changed.items():
        monkeypatch.setenv(name, str(world / path))
    places.settle()
    home = world / "tmpdir" / f"mpd-{os.getuid()}"
    assert os.environ["HOME"] == str(home)
    assert "XDG_CACHE_HOME" not in os.environ
    assert home.stat().st_mode & 0o777 == 0o700
    assert caplog.messages == [f"{world / blocked} cannot be written: HOME is {home} now"]
    places.settle()  # what it starts finds a good home
    assert len(caplog.messages) == 1


def test_credentials_are_read_where_they_are(world):
    (world / "home/.netrc").touch()
    (world / "home/.cache").touch()
    places.settle()
    assert os.environ["NETRC"] == str(world / "home/.netrc")
    assert "HF_TOKEN_PATH" not in os.environ


@pytest.mark.parametrize(("offline", "kept"), [("1", True), ("true", True), ("0", False)])
def test_a_cache_that_can_only_be_read_is_read_offline(world, monkeypatch, offline, kept):
    """Online, a library would download into it."""
    hub = world / "home/.cache/huggingface/hub"
    hub.mkdir(parents=True)
    real = os.access

    def access(path, mode):
        return real(path, mode) and not (mode & os.W_OK and "home" in Path(path).parts)

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    places.settle()
    assert os.environ["HOME"] == str(world / "tmpdir" / f"mpd-{os.getuid()}")
    assert os.environ.get("HF_HUB_CACHE") == (str(hub) if kept else None)


@pytest.mark.parametrize("name", ["HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE"])
@pytest.mark.parametrize("value", ["/dev/null", "/dev/null/below", "file"])
def test_a_cache_that_is_no_folder_is_one_sentence(world, monkeypatch, name, value):
    monkeypatch.chdir(world)
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as caught:
        places.settle()
    assert str(caught.value) == (
        f"{name} is {value}, which is no folder; set it to one, or unset it"
    )
    monkeypatch.setenv(name, "not/yet")
    places.settle()


@pytest.mark.parametrize("home", ["/dev/null", "read-only", None])
def test_stages_run_whatever_the_home_is(tmp_path, student, request, home):
    """Also those that load libraries of models."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "HOME"}
    if home == "read-only":
        (tmp_path / home).mkdir(mode=0o555)
        home = str(tmp_path / home)
    environment |= {"TMPDIR": str(tmp_path)} | ({} if home is None else {"HOME": home})
    decoding = {"num_samples": 1, "temperature": 0, "max_new_tokens": 2}
    model = {"source": "folder", "path": str(student.parent)}
    more = [
        "--student",
        str(student),
        "--benchmarks",
        f"held={request.getfixturevalue('problems')}",
    ]
    for stage, settings, output, arguments in [
        ("models", model, "model/manifest.json", []),
        ("answers", {"benchmarks": {"held": decoding}}, "answers", more),
    ]:
        words = [*ORDINARY, sys.executable, "-m", f"mpd.{stage}"]
        words += ["--output", str(tmp_path / output), "--store", str(tmp_path / "store")]
        done = subprocess.run(
            [*words, "--settings", json.dumps(settings), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "answers" / "held.parquet").is_file()


def test_a_folder_of_that_name_that_is_another_s_is_not_taken(world, monkeypatch):
    monkeypatch.setenv("HOME", str(world / "file"))
    taken = world / "tmpdir" / f"mpd-{os.getuid()}"
    taken.symlink_to(world / "home")
    places.settle()
    home = Path(os.environ["HOME"])
    assert home.parent == world / "tmpdir"
    assert home != taken
    assert list((world / "home").iterdir()) == []


def test_an_account_without_entry_has_its_number_for_a_name(world, monkeypatch, caplog):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("LOGNAME")
    places.settle()
    assert os.environ["LOGNAME"] == str(os.getuid())
    assert caplog.messages == [f"there is no HOME: HOME is {os.environ['HOME']} now"]


def test_a_missing_tmpdir_is_replaced(world, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(world / "missing"))
    places.settle()
    assert os.environ["TMPDIR"] == tempfile.gettempdir() != str(world / "missing")


def test_without_any_temporary_folder_it_is_one_sentence(world, monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(ValueError) as caught:
        places.settle()
    assert str(caught.value) == (
        "No usable temporary directory found in ['/tmp']; set TMPDIR to a folder with room"
    )


def test_without_any_room_it_is_one_sentence_that_names_the_folders(world, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ValueError) as caught:
        places.settle()
    home, temporary = world / "home", world / "tmpdir"
    assert str(caught.value) == (
        f"{home} cannot be written, and {temporary} is full; set HOME to a folder with room"
    )


def test_what_is_left_is_told_once_for_each_disk(world, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_234_560_000))
    assert places.room_left(world, world / "missing") == f"1,234.6 MB in {world / 'tmpdir'}"


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """A read-only installation and a folder for results, both with odd names."""
    folder = tmp_path_factory.mktemp("installation") / ODD
    folder.mkdir()
    Project(folder)
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & 0o555)
    results = tmp_path_factory.mktemp("results") / f"{{experiment}} [1] {ODD}"
    results.mkdir()
    yield folder, results
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)


def ask(command, folder, results, **environment):
    """Run Snakemake or `why` with the results elsewhere; all that it printed, and its code."""
    words = [sys.executable, "-m", command, "--cores", "1"]
    words += ["--snakefile", str(folder / "Snakefile"), "--directory", str(results)]
    words += ["results/small/problems/eval/own.parquet", "--configfile", "overlay.yaml"]
    done = subprocess.run(
        words,
        cwd=results,
        env={**ENVIRONMENT, "HOME": str(results), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def overlay(results, path):
    """Write an overlay with a benchmark of two rows in a file of this name."""
    rows = [{"question": "1+1", "answer": "2"}, {"question": "2+1", "answer": "3"}]
    (results / path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"name": "own", "source": "file", "path": path}
    whole = merged(WORLD, {"problems": {"benchmarks": [own]}})
    (results / "overlay.yaml").write_text(yaml.safe_dump(whole))


def test_a_read_only_installation_writes_elsewhere_without_a_home(installation, tmp_path):
    folder, results = installation
    before = sorted(folder.rglob("*"))
    (tmp_path / "file").touch()
    overlay(results, f"[1] {ODD}.jsonl")
    homeless = {"HOME": str(tmp_path / "file/home"), "TMPDIR": str(tmp_path)}
    code, printed = ask("snakemake", folder, results, **homeless)
    assert code == 0, printed
    made = pl.read_parquet(results / "results/small/problems/eval/own.parquet", glob=False)
    assert made.select("question", "gold").rows() == [("1+1", "2"), ("2+1", "3")]
    assert sorted(folder.rglob("*")) == before
    assert (tmp_path / f"mpd-{os.getuid()}/.cache/snakemake").is_dir()
    code, printed = ask("mpd.why", folder, results)
    assert code == 0, printed
    assert "results/small/problems/eval/own.parquet: up to date\n" in printed


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("{a}", "Snakemake takes braces for wildcards; rename the file or its folder"),
        (
            "[a]",
            "with brackets in its path, Snakemake finds profiles/default only if it is started",
        ),
    ],
)
def test_a_folder_that_snakemake_cannot_bear_is_refused(tmp_path, name, sentence):
    folder = tmp_path / name
    folder.mkdir()
    Project(folder)
    overlay(tmp_path, "rows.jsonl")
    code, printed = ask("snakemake", folder, tmp_path)
    assert code == 1
    assert f"{folder}: {sentence}" in printed
    assert "Traceback" not in printed


def test_a_folder_with_brackets_is_no_trouble_where_snakemake_is_started_in_it(tmp_path):
    folder = tmp_path / "[a]"
    folder.mkdir()
    check_folder(str(folder), str(folder))


@pytest.mark.parametrize("command", ["snakemake", "mpd.why"])
def test_a_folder_in_which_snakemake_can_keep_nothing_is_one_sentence(tmp_path, command):
    folder = tmp_path / "installation"
    folder.mkdir()
    Project(folder)
    overlay(tmp_path, "rows.jsonl")
    (tmp_path / ".snakemake").mkdir(mode=0o555)
    code, printed = ask(command, folder, tmp_path)
    assert code == 1
    assert ".snakemake cannot be written: it is read-only; run `chmod -R u+w .snakemake`" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_a_problem_file_may_have_any_name(tmp_path, monkeypatch, suffix):
    folder = tmp_path / f"{{b}} [1] $HOME a::b ~ *? {ODD}"
    folder.mkdir()
    path = folder / f"{ODD}.{suffix}"
    frame = pl.DataFrame({"q": ["1+1"], "a": ["2"]})
    with path.open("wb") as file:
        write = {"jsonl": frame.write_ndjson, "json": frame.write_json, "csv": frame.write_csv}
        write.get(suffix, frame.write_parquet)(file)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    source = {"source": "file", "path": str(path), "split": "train", "form": "auto"}
    rows, _ = problems.load(Source(**source, question="q", answer="a"), 0, "train")
    assert [(row["question"], row["gold"]) for row in rows] == [("1+1", "2")]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_given_trajectories_may_have_any_name(tmp_path, suffix):
    path = tmp_path / f"{ODD} [!a] *.{suffix}"
    frame = pl.DataFrame({"problem": ["1+1"], "text": ["2"]})
    with path.open("wb") as file:
        (frame.write_ndjson if suffix == "jsonl" else frame.write_parquet)(file)
    problems = pl.DataFrame({"problem_id": [problem_id("1+1")], "question": ["1+1"]})
    found = given.read_given(path, problems, problems["problem_id"])
    assert (found.content, found.rows.select("row", "finish_reason").rows()) == (
        *("text", [(0, "stop")]),
    )


def calls_of(path):
    """The calls in a file that read or write text, or would if no mode stood there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            modes = [word.value for word in node.args if isinstance(word, ast.Constant)]
            binary = any("b" in str(mode) for mode in modes)
            owner = getattr(getattr(node.func, "value", None), "id", "")
            reads = name in ("read_text", "write_text") or (name == "open" and not binary)
            if reads and owner != "os":
                yield node


@pytest.mark.parametrize("folder", ["mpd", "benchmarks"])
def test_text_files_are_utf_8_whatever_the_locale(folder):
    found = [
        f"{path.relative_to(REPOSITORY)}:{call.lineno}"
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for call in calls_of(path)
        if "encoding" not in {keyword.arg for keyword in call.keywords}
    ]
    assert found == []


def printed_under_ascii(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        env=ASCII,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_chat_template_is_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("„{{ x }}“ →", encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from mpd.store.model_folder import chat_template;"
        "print(ascii(chat_template(Path(sys.argv[1]))))"
    )
    output = printed_under_ascii(code, str(tmp_path)).decode()
    assert output == "'\\u201e{{ x }}\\u201c \\u2192'\n"


def test_a_terminal_without_a_sign_gets_a_question_mark():
    code = "from mpd.job import command; command.view(lambda: print('a\\u2192b'), 'show')"
    assert printed_under_ascii(code) == b"a?b\n"


def test_the_reference_of_columns_is_utf_8_whatever_the_terminal():
    code = "import runpy; runpy.run_module('mpd.store.schema', run_name='__main__')"
    assert printed_under_ascii(code).decode() == f"{artifact_reference()}\n"
