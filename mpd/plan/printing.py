"""The plan in a terminal, as JSON, and in one line."""

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from mpd.plan.estimate import Plan
from mpd.plan.line import hours, scaled


def print_plan(console: Console, plan: Plan, explain: bool) -> None:
    """Print the table, what does not fit, what to set, and the assumptions."""
    place = f"{plan.gpus} × {plan.card.name}" if plan.card.is_gpu else "processors alone"
    table = Table(title=f"plan of {plan.experiment} on {place}", title_justify="left")
    for name in ("round", "stage", "jobs", "linked", "tokens", "operations"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name in ("GPU hours", "hours", "memory", "disk", "files"):
        table.add_column(name, justify="right")
    for row in plan.rows:
        table.add_row(
            *(str(row.round), row.stage, str(row.jobs), str(row.linked or "")),
            *(scaled(row.tokens), scaled(row.flops)),
            *(f"{row.gpu_hours:.2f}" if row.gpus else "", hours(row.wall_seconds)),
            *(scaled(row.memory, "B"), scaled(row.disk, "B"), str(row.files)),
        )
    total = plan.total
    table.add_section()
    table.add_row(
        *("", "all", str(total("jobs")), str(total("linked") or "")),
        *(scaled(total("tokens")), scaled(total("flops")), f"{total('gpu_hours'):.2f}"),
        *(hours(plan.wall_seconds), "", scaled(total("disk"), "B"), str(total("files"))),
    )
    console.print(table)
    console.print(
        f"{scaled(plan.trained_tokens)} trained tokens; slowest: {plan.slowest.stage} of round "
        f"{plan.slowest.round}"
    )
    for sentence in plan.hints:
        console.print(f"consider {sentence}")
    if explain:
        for sentence in plan.assumptions:
            console.print(f"assumed: {sentence}")
        console.print("formulas: docs/planning.md")
    else:
        console.print("assumptions: --explain; formulas: docs/planning.md")


def as_json(plan: Plan) -> str:
    """The plan as JSON: rows with bytes, seconds and operations, totals, and sentences."""
    rows = [{**asdict(row), "gpu_hours": row.gpu_hours} for row in plan.rows]
    names = ("jobs", "linked", "tokens", "flops", "gpu_hours", "disk", "files")
    totals = {name: plan.total(name) for name in names}
    content = {
        "experiment": plan.experiment,
        "card": plan.card.name,
        "gpus": plan.gpus,
        "rows": rows,
        "totals": {**totals, "wall_seconds": plan.wall_seconds},
        "trained_tokens": plan.trained_tokens,
        "refusals": plan.refusals,
        "hints": plan.hints,
        "assumptions": plan.assumptions,
    }
    return json.dumps(content, indent=1)
