"""plan: what a run will take, before it is paid, and what does not fit.

    python -m mpd.plan --configfile recipes/qwen3-1.7b.yaml --gpus 8 --gpu h100
    python -m mpd.plan --config rounds=3 --json
    python -m mpd.plan --calibrate

Jobs, tokens, operations, GPU hours, hours, peak memory of a job, disk and files of each stage and
round, for all methods and seeds. No model is loaded. Lengths and rates are those of an earlier run
of the experiment in results/, where there is one; docs/planning.md has formulas and assumptions.
"""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from mpd.job import command
from mpd.plan.calibration import calibrate, calibrated_rates
from mpd.plan.cards import CARDS, CPU, card_of, local_card
from mpd.plan.earlier import measured_rates, measured_rounds, read_tokens
from mpd.plan.estimate import Given, Plan, plan_of, world_of
from mpd.plan.files import read_config
from mpd.plan.printing import as_json, print_plan
from mpd.plan.times import SECTIONS

WIDTH = 130


def main(argv: list[str] | None = None) -> None:
    """Print the plan. Raises ValueError, after the plan, where something cannot fit."""
    parser = argparse.ArgumentParser(prog="python -m mpd.plan", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--configfile", type=Path, nargs="+", default=[], help="overlays of config.yaml")
    add("--config", nargs="+", default=[], metavar="KEY=VALUE", help="settings, as for snakemake")
    add("--gpus", type=int, default=1, help="how many cards there are")
    add("--gpu", help=f"the card: {', '.join(CARDS)}; without it that of this machine, or h100")
    add("--cores", type=int, default=os.cpu_count() or 1, help="processor cores for other jobs")
    add("--student-parameters", type=float, help="such as 1.7e9, in place of the model's files")
    add("--teacher-parameters", type=float, help="such as 8e9")
    add("--train-problems", type=int, help="where problems.num_train is null")
    add("--calibrate", action="store_true", help="measure this machine first, for about a minute")
    add("--explain", action="store_true", help="print what is assumed")
    add("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    if min(arguments.gpus, arguments.cores) < 1:
        raise ValueError("--gpus and --cores must be at least 1")
    plan = _plan(arguments)
    if arguments.json:
        print(as_json(plan))
    else:
        width = None if sys.stdout.isatty() else WIDTH
        console = Console(width=width, highlight=False, markup=False, soft_wrap=True)
        print_plan(console, plan, arguments.explain)
    if plan.refusals:
        raise ValueError("this run cannot fit:\n" + "\n".join(plan.refusals))


def _plan(arguments: argparse.Namespace) -> Plan:
    config = read_config(arguments.configfile, arguments.config)
    asks = any(getattr(config.resources, section).gpu for section in SECTIONS.values())
    card = card_of(arguments.gpu) if arguments.gpu else local_card() or CARDS["h100"]
    if not asks and not arguments.gpu:
        card = CPU
    given = Given(
        card,
        arguments.gpus,
        arguments.cores,
        arguments.student_parameters,
        arguments.teacher_parameters,
        arguments.train_problems,
    )
    if arguments.calibrate:
        calibrate()
    counted = read_tokens(config)
    world = world_of(config, given, measured_rounds(counted))
    rates = {**calibrated_rates(world), **measured_rates(world, card, counted)}
    return plan_of(world, given, rates)


if __name__ == "__main__":
    command.view(main, "plan")
