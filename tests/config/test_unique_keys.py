"""Keys given twice: in files, on the command line, and whatever asks Snakemake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpd.config.unique_keys import (
    require_plain_values,
    require_unique_arguments,
    require_unique_keys,
)
from tests.workflow.project import ENVIRONMENT, Project

REPOSITORY = Path(__file__).parents[2]
TWICE = "rounds: 1\nfilter:\n  max_ratio: 0.5\nrounds: 2\n"


@pytest.fixture
def write(tmp_path):
    """A function that writes a file; it returns the path."""

    def write(text, name="own.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        (TWICE, "rounds", "lines 1 and 4"),
        ("filter:\n  max_ratio: 1\n  min_ratio: 0\n  max_ratio: 2\n", "max_ratio", "lines 2 and 4"),
        ("custom:\n- name: a\n- {name: b,\n   like: c,\n   name: d}\n", "name", "lines 3 and 5"),
        ("rounds: 1\n'rounds': 2\n", "rounds", "lines 1 and 2"),
        ("chat: {close: a, close: a}\n", "close", "line 1"),
        ("a: 1\nb: 2\na: 3\nb: 4\na: 5\n", "a", "lines 1 and 3"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  b: 2\n  b: 3\n", "b", "lines 4 and 5"),
        ("é: 1\n\n# é\né: 2\n", "é", "lines 1 and 4"),
        ('{"a": [{"b": 1,\n "b": 2}]}', "b", "lines 1 and 2"),
        ('{\n\t"a": 1,\n\t"c\\td": "\\/",\n\t"a": 2\n}', "a", "lines 2 and 4"),
    ],
)
def test_a_key_given_twice_is_named_with_its_lines(write, text, key, lines):
    path = write(text)
    with pytest.raises(ValueError) as caught:
        require_unique_keys([path])
    assert (
        str(caught.value) == f"{path}: the key {key} is given twice, on {lines}; remove one of them"
    )


@pytest.mark.parametrize("name", ["own.yaml", "own.json"])
def test_python_in_a_config_file_is_refused(write, name):
    path = write('{"__use_yte__": true, "rounds": "?1 + 1"}', name)
    with pytest.raises(ValueError, match=f"^{path}: __use_yte__ lets Snakemake run Python in a c"):
        require_plain_values([path])


def test_a_tag_in_a_config_file_runs_nothing(write, tmp_path):
    canary = tmp_path / "canary"
    path = write(f"experiment: !!python/object/apply:os.system ['touch {canary}']\n")
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--configfile", path]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and not canary.exists()
    assert "Config file is not valid JSON or YAML" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: {b: 1}\nc: {b: 1}\nd: [{b: 1}, {b: 1}]\n",
        "base: &base {a: 1, b: 2}\nown: {<<: *base, a: 3}\nagain: *base\n",
        # What is merged has keys of its own, and of another.
        "base: &base {a: 1}\nown: &own\n  <<: *base\n  a: 2\nother:\n  <<: *own\n  a: 3\n",
        "one: &one {a: 1}\ntwo: &two {a: 2}\nboth:\n  <<: *one\n  <<: *two\n",
        "one: &one {a: 1}\ntwo: &two {a: 2}\nboth: {<<: [*one, *two], a: 3}\n",
        "1: number\n'1': text\n",
        "a: |\n  b: 1\n  \tb: 1\n",
        '{\n\t"a": {"b": 1},\n\t"c": {"b": 1}\n}',
    ],
)
def test_other_equal_keys_are_none_given_twice(write, text):
    require_unique_keys([write(text)])


def test_json_that_is_no_yaml_is_refused_in_a_sentence(write):
    path = write('{"a"\n: 1}')
    assert json.loads(path.read_text()) == {"a": 1}
    with pytest.raises(ValueError) as caught:
        require_unique_keys([path])
    assert str(caught.value).startswith(f"{path}: its keys cannot be compared (while parsing")
    assert str(caught.value).endswith("; write it as YAML")
    assert "\n" not in str(caught.value)


def test_the_files_of_the_repository_give_no_key_twice():
    files = [REPOSITORY / "config.yaml"]
    for folder in ("recipes", "profiles", "envs"):
        files += (REPOSITORY / folder).rglob("*.yaml")
    assert len(files) > 10
    require_unique_keys(files)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (["rounds=1", "rounds=2"], "--config: the key rounds is given twice; give it once"),
        (["a={b: 1}", "seeds=[0]", "a={c: 1}"], "--config: the key a is given twice; give it once"),
        (
            ['filter={"max_ratio": 1, "max_ratio": 2}'],
            "--config filter: the key max_ratio is given twice; remove one of them",
        ),
    ],
)
def test_a_key_given_twice_on_the_command_line_is_refused(entries, sentence):
    with pytest.raises(ValueError) as caught:
        require_unique_arguments(entries)
    assert str(caught.value) == sentence


def test_other_arguments_pass():
    require_unique_arguments([])
    entries = ["a={b: 1}", "c={b: 1}", "rounds=2", "experiment=", "chat={close: '{', open: x=y}"]
    require_unique_arguments([*entries, "text=}: no YAML"])


@pytest.fixture
def project(tmp_path):
    """The workflow in a folder, with an overlay that gives a key twice."""
    folder = tmp_path / "project"
    folder.mkdir()
    made = Project(folder)
    made.command()
    (folder / "twice.yaml").write_text(TWICE)
    return made


def refusal(folder, *command):
    """What a program says that the repeated key makes fail."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    return done.stdout


DRY_RUN = ("snakemake", "--cores", "1", "--dry-run")
SENTENCE = "the key rounds is given twice, on lines 1 and 4; remove one of them"


@pytest.mark.parametrize("option", ["--configfile", "--configfiles"])
def test_a_dry_run_is_refused(project, option):
    complaint = refusal(project.folder, *DRY_RUN, option, "overlay.yaml", "twice.yaml")
    assert f"\n{project.folder}/twice.yaml: {SENTENCE}\n" in complaint


def test_from_another_working_directory(project, tmp_path):
    """The overlay is where the command was given, config.yaml beside the Snakefile."""
    (tmp_path / "elsewhere").mkdir()
    command = [*DRY_RUN, "--snakefile", "project/Snakefile", "--directory", "elsewhere"]
    complaint = refusal(tmp_path, *command, "--configfile", "project/twice.yaml")
    assert f"\n{project.folder}/twice.yaml: {SENTENCE}\n" in complaint
    path = project.folder / "config.yaml"
    config = path.read_text() + "rounds: 3\n"
    path.write_text(config)
    lines = ["", *config.splitlines()]
    first, last = (number for number, line in enumerate(lines) if line.startswith("rounds:"))
    complaint = refusal(tmp_path, *command)
    assert f"{path}: the key rounds is given twice, on lines {first} and {last}; " in complaint


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--configfile", "overlay.yaml", "twice.yaml"], SENTENCE),
        # Of an option given twice, Snakemake takes the last.
        (["--configfile", "overlay.yaml", "--configfiles", "twice.yaml"], SENTENCE),
        (
            ["--config", "rounds=1", "rounds=2"],
            "--config: the key rounds is given twice; give it once",
        ),
    ],
)
def test_why_is_refused_too(project, arguments, sentence):
    (line,) = refusal(project.folder, "mpd.why", *arguments).splitlines()
    assert line.startswith("why: error: ") and line.endswith(sentence)
