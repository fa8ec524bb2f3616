"""What earlier runs of the experiment on this machine have measured: lengths and rates."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mpd.config import Config
from mpd.config.stages import stage_settings
from mpd.job.layout import RESULTS, Experiment, Round
from mpd.plan.amounts import World, answer_amounts, jobs_of, round_amounts
from mpd.plan.cards import CPU, Card, is_card
from mpd.plan.lengths import Measured, Rounds
from mpd.plan.times import CPU_START, START, gpus_of, operations_of
from mpd.store.differences import note_beside

IN_NOTE = 0.8  # share of a job's start that its note counts: imports of libraries and loading
LEAST_WORK = 0.25  # of a job's start
TOKENS = {"sample": "num_tokens", "compress": "rewrite_tokens", "logits": "num_tokens"}
PLACES = {**{stage: stage for stage in TOKENS}, "answers": "evaluate"}  # where tokens are counted

Counted = dict[tuple[str, int, str], tuple[int, int]]  # rows and tokens of a stage of a round


def read_tokens(config: Config, results: Path = RESULTS) -> Counted:
    """Rows and tokens of each method, round and stage that has files, over all seeds."""
    from mpd.store import table

    counted: defaultdict[tuple[str, int, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for place in _rounds(config, results):
        for stage, folder in PLACES.items():
            for path in sorted((place.folder / folder).glob("*.parquet")):
                column = TOKENS.get(stage, "num_tokens")
                values = table.read_columns(path, [column])[column]
                rows, tokens = counted[place.method, place.number, stage]
                total = sum(value or 0 for value in values)
                counted[place.method, place.number, stage] = rows + len(values), tokens + total
    return dict(counted)


def measured_rounds(counted: Counted) -> Rounds:
    """Mean lengths, and the share of samples that were kept, of what was counted."""
    rounds = {}
    for method, number in {key[:2] for key in counted}:

        def mean(stage: str, key: tuple[str, int] = (method, number)) -> float | None:
            rows, tokens = counted.get((*key, stage), (0, 0))
            return tokens / rows if tokens else None

        samples, _ = counted.get((method, number, "sample"), (0, 0))
        kept = counted.get((method, number, "logits"))
        rounds[method, number] = Measured(
            sample=mean("sample"),
            rewrite=mean("compress"),
            trained=mean("logits"),
            kept=kept[0] / samples if kept and samples else None,
            answers=mean("answers"),
        )
    return rounds


def measured_rates(
    world: World,
    card: Card,
    counted: Counted,
    results: Path = RESULTS,
    start: float = IN_NOTE * CPU_START,
) -> dict[str, float]:
    """Operations a second of each stage that ran on the device which it is planned for.

    Notes have the seconds; where they have no operations, those of the formulas are taken, for the
    tokens that were counted. `start` are the seconds of a note in which a job on a processor
    starts. Jobs that were hardly more than their start tell no rate.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    flops: defaultdict[str, float] = defaultdict(float)
    starts: defaultdict[str, float] = defaultdict(float)
    for place in _rounds(world.config, results):
        for stage, outputs in _outputs(place):
            fits = _device_of(world, stage, card)
            notes = [note_beside(path).get("spent", {}) for path in outputs]
            notes = [note for note in notes if note.get("seconds") and fits(note["device"])]
            if not notes or len(notes) < len(outputs):
                continue
            operations = sum(note.get("flops", 0) for note in notes)
            operations = operations or _operations(world, card, place, stage, counted)
            jobs = min(len(notes), jobs_of(world.config, stage))  # each loads a model once
            each = IN_NOTE * START["transformers"] if gpus_of(world, stage) else start
            starts[stage] += jobs * each
            # Beside other programs, a job waits; its processor time then tells the rate.
            seconds[stage] += sum(min(note["seconds"], _processor(note)) for note in notes)
            flops[stage] += operations
    return {
        stage: flops[stage] / (seconds[stage] - starts[stage])
        for stage in seconds
        if flops[stage] and seconds[stage] > (1 + LEAST_WORK) * starts[stage]
    }


def _rounds(config: Config, results: Path) -> Iterator[Round]:
    experiment = Experiment(results / config.experiment)
    known = {*config.untrained_methods, *config.trained_methods}
    for place in experiment.rounds_there() if experiment.folder.is_dir() else []:
        if place.method in known:
            yield place


def _outputs(place: Round) -> Iterator[tuple[str, list[Path]]]:
    for stage in (*TOKENS, "answers"):
        paths = sorted((place.folder / stage).glob("*.parquet"))
        if paths:
            yield stage, paths
    if place.number and place.student.exists():
        yield "distill", [place.student.parent]


def _processor(note: dict[str, Any]) -> float:
    """Processor seconds where there are such; a GPU is not one."""
    is_cpu = note["device"] == "cpu"
    return note.get("processor_seconds", note["seconds"]) if is_cpu else note["seconds"]


def _device_of(world: World, stage: str, card: Card) -> Callable[[str], bool]:
    """Whether the device of a note is the one that a stage is planned for."""
    if not gpus_of(world, stage):
        return lambda device: device == "cpu"
    return lambda device: is_card(card, device)


def _operations(world: World, card: Card, place: Round, stage: str, counted: Counted) -> float:
    """The operations of one seed of a round, by the formulas for the tokens that were counted."""
    _, tokens = counted.get((place.method, place.number, stage), (0, 0))
    seeds = max(
        len({other.seed for other in _rounds(world.config, place.experiment.folder.parent)}), 1
    )
    amount: dict[str, Any]
    if stage == "answers":
        wildcards: dict[str, Any] = {
            "method": place.method,
            "seed": place.seed,
            "round": place.number,
        }
        settings = stage_settings(world.config, "answers", **wildcards)
        amount = answer_amounts(world, settings, place.method, place.number)
    elif place.number and place.method in world.config.branches:
        branch = world.config.branches[place.method]
        amount = round_amounts(world, branch, place.number)[stage]
    else:
        return 0.0
    planned = amount.get("tokens", 0)
    device = card if gpus_of(world, stage) else CPU
    operations = operations_of(amount.get("flops", 0), amount.get("layers", 0), device)
    return operations / planned * tokens / seeds if planned else 0.0
