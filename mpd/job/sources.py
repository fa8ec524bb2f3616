"""Which files of results/ are made from which, by where they are."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from mpd.job.layout import BENCHMARK_STAGES, Experiment, Round
from mpd.store.differences import note_beside

# By the names under which footers and notes have their digests, the files that these may be of.
Sources = Mapping[str, Sequence[Path]]
SHARDED = ("problems", "sample", "compress", "filter", "logits")
# Of these keys a note has the digests of all files in one text.
JOINED = ("logits", "rewrites", "verdicts", "shards")


def sources_in(experiment: Experiment) -> Iterator[tuple[Path, Sources]]:
    """The files of an experiment that are made from others, with these; models by manifest.

    Where a key has several files, the configuration says which of them is meant, except for those
    of JOINED, which are all shards. The files need not be there.
    """
    yield experiment.head, {"teacher": [experiment.teacher]}
    rounds = experiment.rounds_there()
    reported: list[Path] = []
    for round in rounds:
        pairs = list(chain(_trained(round), _evaluated(round)))
        reported += [path for path, _ in pairs]
        yield from pairs
    yield experiment.report, {"report": reported}


def _trained(round: Round) -> Iterator[tuple[Path, Sources]]:
    experiment, count = round.experiment, round.experiment.num_train_shards()
    if round.number == 0:
        return
    before, teacher = round.before.student, experiment.teacher
    base = round.base.student
    students = [before, base] if _samples_of_round_1(round) else [before]
    scorers = dict.fromkeys([teacher, before, base])
    models = {"student": [*students, teacher], "teacher": list(scorers)}
    shards = {stage: round.shards(stage, count) for stage in SHARDED[1:]}
    shards["problems"] = experiment.train_shards(count)
    has_bank = _may_have_bank(round)
    for number in range(count):
        for place, stage in enumerate(SHARDED[1:], start=1):
            earlier = {name: [shards[name][number]] for name in SHARDED[:place]}
            if stage == "compress" and has_bank:
                earlier["routes"] = [round.routes]
            yield shards[stage][number], {**earlier, **models}
    if has_bank:
        yield from _banked(round, shards["problems"])
    yield round.student, {**models, "student": [before], "logits": shards["logits"]}


def _banked(round: Round, problems: Sequence[Path]) -> Iterator[tuple[Path, Sources]]:
    """The bank of a round, made from all rounds before, and the routes along it."""
    experiment, count = round.experiment, len(problems)
    rounds = [
        Round(experiment, round.method, round.seed, number) for number in range(1, round.number)
    ]
    embedder = {"embedder": [experiment.embedder]}
    made = {
        key: [path for each in rounds for path in each.shards(stage, count)]
        for key, stage in (("rewrites", "compress"), ("verdicts", "filter"))
    }
    yield round.bank, {**embedder, **made}
    yield round.routes, {**embedder, "bank": [round.bank], "shards": problems}


def has_routes(round: Round) -> bool:
    """Whether the teacher was shown routes along a bank in a round, as the note of compress says.

    Raises ValueError where that is damaged.
    """
    return "routes" in note_beside(round.shards("compress", 1)[0]).get("inputs", {})


def _may_have_bank(round: Round) -> bool:
    """Whether rewrites of a round followed its bank, which may be left from other settings."""
    if not round.bank.exists():
        return False
    try:
        return has_routes(round)
    except ValueError:  # damaged, which is reported elsewhere
        return True


def _samples_of_round_1(round: Round) -> bool:
    """Whether a later round has the samples of the first, as where the base student samples."""
    if round.number == 1:
        return False
    first = Round(round.experiment, round.method, round.seed, 1)
    try:
        notes = [note_beside(place.shards("sample", 1)[0]) for place in (round, first)]
    except ValueError:  # damaged, which is reported elsewhere
        return False
    digests = [note.get("digests") for note in notes]
    return digests[0] is not None and digests[0] == digests[1]


def _evaluated(round: Round) -> Iterator[tuple[Path, Sources]]:
    answers, evaluate = BENCHMARK_STAGES
    paths = sorted((round.folder / answers).glob("*.parquet"))
    for name in (path.stem for path in paths):
        student = {"student": [round.student]}
        problems = {"problems": [round.experiment.problems(name)]}
        path = round.benchmark(answers, name)
        yield path, {**student, **problems}
        yield round.benchmark(evaluate, name), {**student, **problems, "answers": [path]}
