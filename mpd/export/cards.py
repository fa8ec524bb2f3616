"""The cards of a model and of a data set: README.md files whose head the hub reads. No I/O."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

from mpd.config.base import BASE
from mpd.export.data import FOLDER, MEANINGS
from mpd.export.results import Results

SOURCES = {
    "hub": "on the Hugging Face hub",
    "tiny": "the embedded world of MPD",
    "folder": "a local folder",
    "file": "a local file",
    "gguf": "a GGUF file",
    "reasoning_gym": "of the package reasoning-gym",
}
USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this one, or its name on the hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
messages = [{"role": "user", "content": "..."}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=512)[0]))
```"""
PATH = re.compile(r"(/|~|\.\./)[^\s{]*")  # of this machine
TAGS = ["mpd", "distillation", "reasoning", "concise-reasoning"]


def model_card(results: Results, license: str | None) -> str:
    """The README.md of a model folder.

    `license` is an identifier of the hub, such as apache-2.0; None where it is not known.
    """
    student = results.models.get("student", {})
    rows = results.summary.filter(method=results.round.method).to_dicts()
    head = ModelCardData(
        base_model=student["path"] if student.get("source") == "hub" else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        license=license,
        tags=TAGS,
        model_name=results.name,
        eval_results=[evaluated for row in rows for evaluated in _evaluated(results, row)],
    )
    place = results.round
    paragraphs = [
        f"# {results.name}",
        f"A student trained to think shorter: method `{place.method}`, seed {place.seed}, "
        f"{place.number} round{'s' * (place.number > 1)} of offline staged distillation.",
        "## Result",
        _table(
            ["benchmark", "student", "accuracy", "tokens", "median", "p90", "longest", "cut"],
            [_measures(row) for row in results.summary.sort("benchmark", "round").to_dicts()],
        ),
        "Accuracy is avg@k with its standard error over problems; tokens are those of whole "
        f"completions. {_choice(results)}",
        *_differences(results),
        "## Use",
        "The folder loads with transformers and vLLM. The settings of the answers below say how it "
        "was sampled, and whether with thinking.",
        USE,
        "## What went in",
        _table(
            ["", "from"],
            [[role, origin(settings)] for role, settings in results.models.items()]
            + [[f"problems: {name}", origin(each)] for name, each in results.problems.items()],
        ),
        "The weights derive from those of the student above and were trained on texts of both "
        "models, so the licences of both models and of the training problems apply"
        + (f"; this folder is given as {license}." if license else ". They are not known here."),
        "## How to reproduce it",
        "The versions and settings below, with the same models and problems, give the same rows; "
        "weights agree to the last bits on the same kind of processor alone.",
        _table(["package", "version"], [list(pair) for pair in results.versions.items()]),
        *_settings(results),
    ]
    return _with_head(head, paragraphs)


def data_card(results: Results, counts: Mapping[str, int], license: str | None) -> str:
    """The README.md of a data set folder. `counts` are the rows of each round."""
    files = [{"split": name, "path": f"{FOLDER}/{name}-*.parquet"} for name in counts]
    head = DatasetCardData(
        license=license,
        task_categories=["text-generation"],
        pretty_name=f"Trajectories and rewrites of {results.name}",
        tags=TAGS,
        configs=[{"config_name": "default", "data_files": files}],
    )
    paragraphs = [
        f"# Trajectories and rewrites of {results.name}",
        "What a student wrote, what its teacher made of it, and the verdicts: a row for each "
        "rewrite, also for those that were not trained on (`keep`), and a split for each round.",
        _table(["split", "rows"], [[name, f"{count:,}"] for name, count in counts.items()]),
        "## Columns",
        _table(["column", "meaning"], [[f"`{name}`", text] for name, text in MEANINGS.items()]),
        "## What went in",
        _table(
            ["", "from"],
            [[role, origin(settings)] for role, settings in results.models.items()]
            + [["problems", origin(results.problems.get("train", {}))]],
        ),
        "Questions and gold answers are those of the problem set; the texts are those of the "
        "models. Their licences apply"
        + (f"; this folder is given as {license}." if license else ". They are not known here."),
    ]
    return _with_head(head, paragraphs)


def origin(settings: Mapping[str, Any]) -> str:
    """Where a model or a problem set came from, in a few words."""
    if not settings:
        return "not recorded"
    tasks = [task["task"] for task in settings.get("tasks") or []]
    place = settings.get("path") or settings.get("task") or ", ".join(tasks)
    if settings["source"] in ("file", "folder", "gguf"):
        place = Path(str(place)).name  # where it is on this machine is nobody's business
    parts = [f"`{place}`" if place else "", SOURCES.get(settings["source"], settings["source"])]
    if settings.get("config"):
        parts.append(f"configuration {settings['config']}")
    if settings.get("split") and settings["source"] in ("hub", "file"):
        parts.append(f"split {settings['split']}")
    if settings.get("revision"):
        parts.append(f"at {settings['revision']}")
    return " ".join(part for part in parts if part)


def _evaluated(results: Results, row: Mapping[str, Any]) -> list[EvalResult]:
    settings = results.problems.get(row["benchmark"], results.problems.get("train", {}))
    is_public = settings.get("source") == "hub"  # where a file is on this machine is not
    measures = {"accuracy": "avg@k", "mean_tokens": "mean completion tokens"}
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=str(settings.get("path" if is_public else "source")),
            dataset_name=row["benchmark"],
            dataset_config=row["benchmark"],
            metric_type=name,
            metric_name=f"{title}, k = {row['num_samples']}" if name == "accuracy" else title,
            metric_value=row[name],
        )
        for name, title in measures.items()
    ]


def _measures(row: Mapping[str, Any]) -> list[str]:
    student = BASE if row["method"] == BASE else f"{row['method']}, round {row['round']}"
    return [
        *(row["benchmark"], student, f"{row['accuracy']:.3f} ± {row['accuracy_se']:.3f}"),
        f"{row['mean_tokens']:,.1f} ± {row['mean_tokens_se']:,.1f}",
        *(f"{row[f'tokens_{name}']:,.0f}" for name in ("median", "p90", "max")),
        f"{row['truncation_rate']:.1%}",
    ]


def _choice(results: Results) -> str:
    if results.chosen == results.round.number:
        return "The development split chose this round."
    return (
        "**The development split did not choose this round**: it chose "
        + (f"round {results.chosen}" if results.chosen else "to stay with the base student")
        + ", by tokens and accuracy."
    )


def _differences(results: Results) -> list[str]:
    rows = [
        [
            *(row["benchmark"], str(row["num_seeds"]), _interval(row, "accuracy", "+.3f")),
            *(_interval(row, "tokens", "+,.1f"), _interval(row, "longer", ".1%")),
        ]
        for row in results.comparison.to_dicts()
    ]
    if not rows:
        return []
    return [
        "Differences to the base student over all seeds of the experiment, paired by problem, with "
        "95 % bootstrap intervals; longer is the share of problems whose answers have more tokens.",
        _table(["benchmark", "seeds", "accuracy", "tokens", "longer"], rows),
    ]


def _interval(row: Mapping[str, Any], name: str, form: str) -> str:
    ends = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
    if None in ends:
        return "not known"
    value, low, high = (format(end, form) for end in ends)
    return f"{value} [{low}, {high}]"


def _settings(results: Results) -> list[str]:
    """The settings of each stage in the student's last round."""
    return [
        f"<details><summary>settings of {stage}</summary>\n\n```json\n{_without_paths(text)}\n"
        "```\n\n</details>"
        for stage, groups in results.stages.items()
        for text in groups
    ]


def _without_paths(text: str) -> str:
    """JSON in which paths of this machine are names of files."""
    return json.dumps(_named(json.loads(text)), indent=1, sort_keys=True, ensure_ascii=False)


def _named(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _named(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_named(item, key) for item in value]
    # A prompt may begin with a slash, too: /no_think {problem}
    if isinstance(value, str) and (key == "trajectories" or PATH.fullmatch(value)):
        return Path(value).name
    return value


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)


def _with_head(head: Any, paragraphs: Sequence[str]) -> str:
    body = "\n\n".join(paragraphs)
    return f"---\n{head.to_yaml()}\n---\n\n{body}\n"
