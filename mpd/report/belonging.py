"""Whether the files of a report belong together: a swapped one would draw another result."""

from collections.abc import Sequence
from pathlib import Path

from mpd.job.layout import Round
from mpd.report.rounds import Files
from mpd.store import schema, table
from mpd.store.digests import digest_of
from mpd.store.files import read_json
from mpd.store.lineage import Source, contents_of, require_made_from


def require_answers(round: Round, benchmarks: Sequence[str]) -> None:
    """Raise ValueError unless the grades of a round are of its student, answers and benchmarks."""
    for name in benchmarks:
        problems, answers = round.experiment.problems(name), round.benchmark("answers", name)
        sources = {
            "problems": (problems, table.content_digest(problems, schema.PROBLEMS)),
            "answers": (answers, table.content_digest(answers, schema.ANSWERS)),
            **_model("student", round.student),
        }
        require_made_from(round.benchmark("evaluate", name), schema.EVALUATE, sources)


def require_training(round: Round, files: Files, sampler: str | None = None) -> None:
    """Raise ValueError unless the shards of a round and the metrics of its student are of one run.

    `files` are those of the round, by kind; `sampler` is that of its method.
    """
    student = _model("student", round.before.student)
    cached = _model("student", round.base.student) if sampler == "base" else student
    contents = []
    for number, problems in enumerate(round.experiment.train_shards(len(files["sample"]))):
        shards = {
            "problems": (problems, schema.PROBLEMS),
            "sample": (files["sample"][number], schema.SAMPLE),
            "compress": (files["compress"][number], schema.COMPRESS),
            "filter": (files["filter"][number], schema.FILTER),
            "logits": (files["logits"][number], schema.LOGITS),
        }
        contents.append(contents_of(shards)["logits"])
        require_made_from(*shards["logits"], cached)
    cache = files["logits"][0].parent
    sources = {**student, "logits": (cache, digest_of(contents))}
    require_made_from(round.metrics, schema.METRICS, sources)


def _model(name: str, manifest: Path) -> dict[str, Source]:
    """A model as a source, by its manifest; nothing where that has gone.

    Its weights may have gone: nothing is computed from them.
    """
    digest = read_json(manifest).get("digest")
    return {name: (manifest, digest)} if isinstance(digest, str) else {}
