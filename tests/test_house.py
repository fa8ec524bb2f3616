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
from pydantic import BaseModel

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
    "evaluate",
    "report",
]


def imports_of(path: Path) -> set[str]:
    """The modules of the package that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("mpd.").split(".")[0] for name in found if name.startswith("mpd.")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_rule_file_module_and_section(stage: str) -> None:
    assert f"rule {stage}:" in (REPOSITORY / "rules" / f"{stage}.smk").read_text()
    assert (PACKAGE / f"{stage}.py").is_file()
    assert stage in Config.model_fields


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_imports_a_stage(path: Path) -> None:
    assert imports_of(path) & set(STAGES) == set()


def test_the_snakefile_imports_config_and_schema_alone() -> None:
    text = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    found = re.findall(r"^\s*(?:from|import) +(mpd\S*)(?: import (.*))?$", text, re.MULTILINE)
    assert {module for module, _ in found} == {"mpd", "mpd.config"}
    assert [names for module, names in found if module == "mpd"] == ["schema"]


@pytest.mark.parametrize("module", ["filter", "problems", "config", "schema", "report", "distill"])
def test_light_modules_load_no_torch(module: str) -> None:
    code = f"import sys, mpd.{module}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("module", ["sample", "compress", "logits", "evaluate", "models"])
def test_model_stages_load_torch_only_for_work(module: str) -> None:
    code = f"import sys, mpd.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def leaves(model: type[BaseModel]) -> set[str]:
    """The names of all config keys below a section."""
    names: set[str] = set()
    for definition in model.model_json_schema()["$defs"].values():
        names |= set(definition.get("properties", {}))
    return names | set(model.model_fields)


def test_every_config_key_has_a_reader() -> None:
    sources = [*PACKAGE.rglob("*.py"), *(REPOSITORY / "rules").glob("*.smk")]
    text = "".join(path.read_text() for path in sources if path.name != "config.py")
    # In config.py itself only what is read of a validated section counts, not its definition.
    text += "".join(
        line + "\n"
        for line in (PACKAGE / "config.py").read_text().splitlines()
        if not re.match(r"    \w+: ", line)
    )
    unread = {
        name for name in leaves(Config) if not re.search(rf"(\.|[\"']){name}\b|\b{name}=", text)
    }
    assert unread == set()


def test_every_column_is_described() -> None:
    for artifact in schema.ARTIFACTS:
        assert artifact.version >= 1
        assert set(artifact.key) <= set(artifact.names)
        for column in artifact.columns:
            assert len(column.description) > 10, f"{artifact.name}.{column.name}"


def test_the_readme_has_the_artifact_reference() -> None:
    assert schema.markdown() in (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_recipes_validate_and_name_their_own_experiment(path: Path) -> None:
    base = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    recipe = yaml.safe_load(path.read_text())
    recipe["problems"].setdefault("path", "given/on/the/command/line.jsonl")
    assert parse_config(merged(base, recipe)).experiment == path.stem


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


def test_the_conda_environment_has_the_pins_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((REPOSITORY / "envs/transformers.yaml").read_text())
    assert environment["dependencies"][-1]["pip"] == project["dependencies"]
    assert all("==" in pin for pin in project["dependencies"])
