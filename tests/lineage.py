"""An experiment of two rounds whose files name in their notes what they were made from."""

import json

from mpd.job.layout import Experiment
from mpd.store import schema, table
from tests.notes import write_note
from tests.test_report import logits_frame, metrics_frame, stage_frames

SAMPLE = "p0-0"


def write_model(folder, note_inputs, digest):
    """A model folder as far as its lineage goes: a manifest and a note."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"digest": digest}))
    kind = "student" if note_inputs else "models"
    settings = {"folder": str(folder)}
    write_note(folder / "provenance.json", kind=kind, settings=settings, inputs=note_inputs)


def write_artifact(path, frame, artifact, inputs, **settings):
    """A table with its note; returns the digest of its content."""
    content = table.write(path, frame, artifact, {})
    note = {"kind": artifact.name, "inputs": inputs, "settings": {"of": str(path), **settings}}
    write_note(path.with_suffix(".json"), **note)
    return content


def write_experiment(folder, method="mpd"):
    """Models, problems and two rounds; the second shard of each round has no kept row."""
    experiment = Experiment(folder)
    write_model(experiment.base_student(0).parent, {}, "the base student")
    write_model(experiment.teacher.parent, {}, "the teacher")
    problems, samples, candidates, verdicts = stage_frames([0.5, 0.5])
    halves = [slice(0, 1), slice(1, 2)]
    shards = []
    for number, half in enumerate(halves):
        path = experiment.train / f"shard_{number}.parquet"
        shards.append(table.write(path, problems[half], schema.PROBLEMS, {}))
    write_note(experiment.train / "provenance.json", kind="problems")
    student = "thebasestudent"
    write_model(experiment.base_student(0).parent, {}, student)
    for number in (1, 2):
        round = experiment.round(method, 0, number)
        caches = []
        for shard, half in enumerate(halves):
            pair = slice(2 * half.start, 2 * half.stop)
            name, place = f"shard_{shard}.parquet", {"number": number}
            inputs = {"problems": shards[shard], "student": student}
            inputs["sample"] = write_artifact(
                round.folder / "sample" / name, samples[half], schema.SAMPLE, inputs, **place
            )
            inputs["compress"] = write_artifact(
                round.folder / "compress" / name, candidates[pair], schema.COMPRESS, inputs, **place
            )
            inputs["filter"] = write_artifact(
                round.folder / "filter" / name, verdicts[pair], schema.FILTER, inputs, **place
            )
            scored = logits_frame((7, -1.0, -0.5, -0.2))[: 1 - shard]
            caches.append(
                write_artifact(
                    round.folder / "logits" / name, scored, schema.LOGITS, inputs, **place
                )
            )
        trained = {"logits": " ".join(caches), "student": student, "teacher": "theteacher"}
        student = f"student{number}"
        write_model(round.folder / "student", trained, student)
        metrics = round.folder / "student/metrics.parquet"
        table.write(metrics, metrics_frame(5), schema.METRICS, {"number": str(number)})
    return folder
