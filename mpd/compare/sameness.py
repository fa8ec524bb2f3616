"""What must be the same before two experiments can be compared, and why they cannot be."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mpd.compare.experiments import Reported, in_all
from mpd.config.base import DEV
from mpd.config.generation import Decoding
from mpd.store.differences import flat
from mpd.store.signs import harmless

ADVICE = "name the benchmarks that can be compared with --benchmarks"
# What is compared, in this order, and the sentence on a difference.
SENTENCES = {
    "questions": "has other problems",
    "problems": "has other gold answers or scorers for the same questions",
    "decoding": "was decoded otherwise",
    "scorer": "was graded otherwise",
}


def facts(experiment: Reported, benchmark: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """How each student's answers to a benchmark were obtained, by the keys of SENTENCES.

    Questions, gold answers and scorers are compared by digest. Decoding is how completions are
    sampled, apart from the seed; the scorer is the version of the grader with its settings.
    """
    for note in experiment.notes("answers", benchmark).values():
        settings = {**note["settings"], **note["settings"]["chat"]}
        names = [*Decoding.model_fields, "thinking"]
        yield "questions", {"digest": note["inputs"]["questions"]}
        yield "decoding", {name: settings.get(name) for name in names}
    for note in experiment.notes("evaluate", benchmark).values():
        yield "problems", {"digest": note["inputs"]["problems"]}
        yield "scorer", {"version": note["version"], **flat(note["settings"])}


def reason(first: Reported, other: Reported, benchmark: str) -> str:
    """Why two experiments cannot be compared on a benchmark; empty where they can be."""
    known: dict[str, dict[str, Any]] = {}
    found = [*facts(first, benchmark), *facts(other, benchmark)]
    for kind, values in found:
        known.setdefault(kind, values)
    for kind, sentence in SENTENCES.items():
        for values in (values for each, values in found if each == kind):
            if values != known[kind]:
                details = "; ".join(_differences(known[kind], values))
                return (
                    f"{other.experiment.folder}: benchmark {harmless(benchmark)} {sentence} than "
                    f"in {first.experiment.folder} ({details})"
                )
    return ""


def _differences(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    for name in {**one, **other}:
        texts = [
            json.dumps(values.get(name), ensure_ascii=False)[:34].strip('"')
            for values in (other, one)
        ]
        if one.get(name) != other.get(name):
            yield harmless("{} {}, there {}".format(name, *texts))


def require_same_tokens(experiments: Sequence[Reported]) -> None:
    """Raise ValueError where the students of two experiments count tokens of other tokenizers.

    Nothing is refused where the manifests of one of them have gone.
    """
    first = experiments[0]
    for other in experiments[1:]:
        maps = [
            {models[role]["token_map"] for role in models if role.startswith("student")}
            for models in (first.models, other.models)
        ]
        if all(maps) and maps[0] != maps[1]:
            raise ValueError(
                f"{other.experiment.folder}: its students have another tokenizer than those of "
                f"{first.experiment.folder}, so that tokens cannot be compared"
            )


def comparable(
    experiments: Sequence[Reported], wanted: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The benchmarks to compare on, and sentences on those that are left out.

    `wanted` are those that were asked for; without any, all that every experiment has, as far as
    the development split is the same. Raises ValueError where a benchmark is missing or cannot be
    compared, or nothing is left.
    """
    first, *others = experiments
    shared = in_all(experiments, "benchmarks")
    for name in wanted:
        if name not in shared:
            raise ValueError(
                f"--benchmarks {name}: not in every experiment, which share "
                f"{', '.join(map(harmless, shared)) or 'none'}"
            )
    every = dict.fromkeys(name for each in experiments for name in each.benchmarks)
    left_out = [
        f"{harmless(name)}: not in every experiment"
        for name in every
        if name not in shared and not wanted
    ]
    compared = []
    for name in wanted or shared:
        sentence = next(filter(None, (reason(first, other, name) for other in others)), "")
        if sentence and (wanted or name != DEV):
            raise ValueError(f"{sentence}; {ADVICE}")
        if sentence:
            left_out.append(sentence)
        else:
            compared.append(name)
    if not compared:
        raise ValueError(
            f"{others[0].experiment.folder}: nothing to compare with {first.experiment.folder}: "
            + "; ".join(left_out)
        )
    return compared, left_out
