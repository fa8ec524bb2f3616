"""Experiments as far as their comparison reads them, written by hand."""

import json

import polars as pl

from mpd.job.layout import Experiment
from mpd.report.rounds import evaluation_digests, evaluation_files
from mpd.report.speed import speed_by_student
from mpd.report.students import by_student
from mpd.report.summary import summary_frame
from mpd.store import schema, table
from tests.notes import write_note
from tests.test_report import evaluated

DECODING = {
    "num_samples": 1,
    "temperature": 0.5,
    "top_p": 1.0,
    "top_k": 0,
    "max_new_tokens": 320,
    "chat": {"prompt": "{problem}", "thinking": True},
}
GRADING = {"max_new_tokens": 320, "chat": {"close": "</think>", "think": "tags"}}
# Correct or not, and tokens, of each of three problems.
BASE = ("base", 0, 0, [(True, 100), (False, 200), (True, 60)])
MPD = ("mpd", 1, 0, [(True, 40), (True, 140), (False, 10)])


def write_experiment(
    folder,
    *students,
    benchmarks=("one", "dev"),
    decoding=DECODING,
    grading=GRADING,
    version=4,
    questions=("1+1", "2+2", "3+3"),
    golds=("4", "4", "4"),
    token_map="the map",
    notes=True,
):
    """An experiment of students given as method, round, seed and answers; returns its folder.

    `decoding` and `grading` are the settings of all answers and grades, `version` that of grades.
    """
    experiment = Experiment(folder)
    rounds = [experiment.round(method, seed, number) for method, number, seed, _ in students]
    for seed in {round.seed for round in rounds}:
        manifest = experiment.base_student(seed)
        manifest.parent.mkdir(parents=True, exist_ok=True)
        texts = dict.fromkeys(("weights", "tokenizer", "chat_template"), "")
        content = {**texts, "digest": f"base {seed}", "token_map": token_map}
        manifest.write_text(json.dumps({**content, "context_length": 9, "files": {}}))
    for name in benchmarks:
        ids = [f"p{number}" for number in range(len(questions))]
        problems = {
            "problem_id": ids,
            "question": list(questions),
            "gold": list(golds),
            "source_row": list(range(len(ids))),
        }
        path = experiment.problems(name)
        frame = table.frame_of(pl.DataFrame(problems).to_dicts(), schema.PROBLEMS)
        content = table.write(path, frame, schema.PROBLEMS, {"benchmark": name})
        asked = table.column_digest(path, schema.PROBLEMS, schema.ASKED)
        for round, (*_, answers) in zip(rounds, students, strict=True):
            path = round.benchmark("answers", name)
            identity = {"seed": str(round.seed), "of": round.name}
            answered = table.write(
                path, table.frame_of([], schema.ANSWERS), schema.ANSWERS, identity
            )
            if notes:
                write_note(
                    path.with_suffix(".json"), settings=decoding, inputs={"questions": asked}
                )
            path = round.benchmark("evaluate", name)
            made_from = {"problems": content, "answers": answered}
            if round.number == 0:
                made_from["student"] = f"base {round.seed}"
            grades = evaluated(*((f"p{n}", *answer) for n, answer in enumerate(answers)))
            table.write(path, grades, schema.EVALUATE, made_from)
            write_note(
                path.with_suffix(".json"), version=version, settings=grading, inputs=made_from
            )
    evaluations = evaluation_files(rounds, benchmarks)
    table.write(folder / "summary.parquet", summary_frame(evaluations), schema.SUMMARY, {})
    spent = {
        round: {stage: [{"seconds": 2.0}] for stage in ("sample", "answers")[round.number == 0 :]}
        for round in rounds
    }
    tokens = {
        student: [{"sample": 5, "answers": 100}] * len(s)
        for student, s in by_student(rounds).items()
    }
    speed = speed_by_student(
        tokens, {student: [spent[r] for r in s] for student, s in by_student(rounds).items()}
    )
    table.write(folder / "speed.parquet", speed, schema.SPEED, {})
    (folder / "report.html").write_text("the page")
    write_note(
        folder / "report.json",
        settings={"max_accuracy_drop": 0.0, "samplers": {}},
        inputs=evaluation_digests(evaluations),
    )
    return folder
