import polars as pl
import pytest

from mpd import filter as filter_stage
from mpd.config.filter import FilterSettings
from mpd.filter import choose_shortest, verdicts, with_samples_and_problems
from mpd.store import schema, table
from mpd.text.grading.grader import Grader
from tests.changes import with_changes
from tests.peaks import peak_megabytes

CHAT = {"think": "tags", "close": "\n</think>\n\n"}
SETTINGS = FilterSettings(
    min_ratio=0.2,
    max_overlap=0.9,
    max_tokens=8,
    leaks=("The Draft", "instruction"),
    copies="drop",
    max_repeats=2,
    chat=CHAT,
)
SAMPLE_IDS = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
SAMPLE_TEXT = "<think>\nlong\n</think>\n\n\\boxed{4}"
RIGHT, WRONG = "<think>\nx\n</think>\n\n\\boxed{4}", "<think>\nx\n</think>\n\n\\boxed{5}"


def row_of(**changes):
    """A row that passes every check."""
    row = {
        "sample_id": "p-0",
        "candidate": 0,
        "problem_id": "p",
        "gold": "4",
        "question": "2+2",
        "sample_text": SAMPLE_TEXT,
        "sample_ids": SAMPLE_IDS,
        "sample_tokens": 10,
        "status": "ok",
        "rewrite": "x\n\\boxed{4}",
        "text": RIGHT,
        "completion_ids": [10, 11, 12, 20],
        "num_tokens": 4,
    }
    assert changes.keys() <= row.keys()
    row |= changes
    if "completion_ids" in changes and row["completion_ids"] is not None:
        row["num_tokens"] = len(row["completion_ids"])
    return row


INTEGERS = pl.List(pl.Int32)
ROW_SCHEMA = {
    "sample_ids": INTEGERS,
    "completion_ids": INTEGERS,
    "candidate": pl.Int32,
    "sample_tokens": pl.Int32,
    "num_tokens": pl.Int32,
    "text": pl.String,
    "rewrite": pl.String,
}


def judged(*rows, **settings):
    frame = pl.DataFrame(list(rows), schema_overrides=ROW_SCHEMA, infer_schema_length=None)
    with Grader() as grader:
        return verdicts(frame, with_changes(SETTINGS, **settings), grader)


KEPT = {
    "sample_id": "p-0",
    "candidate": 0,
    "problem_id": "p",
    "gold": "4",
    "sample_answer": "4",
    "sample_verdict": "correct",
    "answer": "4",
    "verdict": "correct",
    "correct": True,
    "truncated": False,
    "too_long": False,
    "format": True,
    "sample_tokens": 10,
    "num_tokens": 4,
    "ratio": 0.4,
    "overlap": 0.5,
    "leak": False,
    "copy": False,
    "repetition": False,
    "keep": True,
    "reason": "kept",
}
NO_REWRITE = {"rewrite": None, "text": None, "completion_ids": None, "num_tokens": None}
NOTHING = {
    "answer": None,
    "verdict": "none",
    "correct": False,
    "num_tokens": None,
    "ratio": None,
    "overlap": None,
    "format": False,
    "keep": False,
}


@pytest.mark.parametrize(
    ("row", "settings", "columns"),
    [
        ({}, {}, {}),
        (
            {"status": "sample_truncated", "sample_text": "<think>\n", **NO_REWRITE},
            {},
            {
                **NOTHING,
                "sample_answer": None,
                "sample_verdict": "none",
                "truncated": True,
                "reason": "sample_truncated",
            },
        ),
        (
            {
                "status": "sample_too_long",
                "sample_text": "",
                "sample_ids": [],
                "sample_tokens": 0,
                **NO_REWRITE,
            },
            {},
            {
                **NOTHING,
                "sample_answer": None,
                "sample_verdict": "none",
                "sample_tokens": 0,
                "too_long": True,
                "reason": "sample_too_long",
            },
        ),
        (
            {"status": "sample_unsayable", **NO_REWRITE},
            {},
            {**NOTHING, "reason": "sample_unsayable"},
        ),
        (
            {"status": "rewriting_prompt_too_long", **NO_REWRITE},
            {},
            {**NOTHING, "too_long": True, "reason": "rewriting_prompt_too_long"},
        ),
        (
            {"status": "rewrite_truncated", **NO_REWRITE, "rewrite": "2+2 is the draft"},
            {},
            {**NOTHING, "truncated": True, "leak": True, "reason": "rewrite_truncated"},
        ),
        (
            {"status": "format", **NO_REWRITE, "rewrite": "four"},
            {},
            {**NOTHING, "reason": "format"},
        ),
        (
            {"status": "format", **NO_REWRITE, "rewrite": "four"},
            {"kept": "all"},
            {**NOTHING, "reason": "format"},
        ),
        (
            {"completion_ids": list(range(20, 29))},
            {},
            {
                "num_tokens": 9,
                "ratio": 0.9,
                "overlap": 0.0,
                "too_long": True,
                "keep": False,
                "reason": "too_long",
            },
        ),
        (
            {"completion_ids": list(range(20, 29))},
            {"max_tokens": None},
            {"num_tokens": 9, "ratio": 0.9, "overlap": 0.0},
        ),
        (
            {"text": WRONG},
            {},
            {
                "answer": "5",
                "verdict": "wrong",
                "correct": False,
                "keep": False,
                "reason": "wrong_answer",
            },
        ),
        (
            {"text": WRONG},
            {"kept": "all"},
            {"answer": "5", "verdict": "wrong", "correct": False},
        ),
        (
            {"text": "<think>\n\\boxed{4}\n</think>\n\nfour"},
            {},
            {
                "answer": None,
                "verdict": "none",
                "correct": False,
                "keep": False,
                "reason": "answer_none",
            },
        ),
        (
            {"text": "<think>\nx\n</think>\n\nAnswer: 5} + 3", "completion_ids": [10]},
            {},
            {
                "answer": "5} + 3",
                "verdict": "unparsed",
                "correct": False,
                "num_tokens": 1,
                "ratio": 0.1,
                "overlap": 0.0,
                "keep": False,
                "reason": "answer_unparsed",  # it comes before the ratio, as wrong_answer does
            },
        ),
        (
            {"sample_ids": [1, 2, 3], "sample_tokens": 3},
            {},
            {
                "sample_tokens": 3,
                "ratio": 4 / 3,
                "overlap": 0.0,
                "keep": False,
                "reason": "ratio_too_high",
            },
        ),
        (
            {"sample_ids": [10, 11, 12, 21], "sample_tokens": 4},
            {},
            {"sample_tokens": 4, "ratio": 1.0, "overlap": 0.5},
        ),
        (
            {"completion_ids": [20]},
            {},
            {
                "num_tokens": 1,
                "ratio": 0.1,
                "overlap": 0.0,
                "keep": False,
                "reason": "ratio_too_low",
            },
        ),
        ({"completion_ids": [20, 21]}, {}, {"num_tokens": 2, "ratio": 0.2, "overlap": 0.0}),
        (
            {"completion_ids": [10, 11, 12, 13]},
            {},
            {"overlap": 1.0, "keep": False, "reason": "overlap"},
        ),
        ({"completion_ids": [10, 11, 12, 13]}, {"max_overlap": 1.0}, {"overlap": 1.0}),
        (
            {"rewrite": "As THE DRAFT says, 4."},
            {},
            {"leak": True, "keep": False, "reason": "leak"},
        ),
        ({"rewrite": "As THE DRAFT says, 4."}, {"leaks": []}, {}),
        (
            {"completion_ids": SAMPLE_IDS},
            {"max_tokens": None, "max_overlap": 1.0},
            {
                "num_tokens": 10,
                "ratio": 1.0,
                "overlap": 1.0,
                "copy": True,
                "keep": False,
                "reason": "copy",
            },
        ),
        (
            {"completion_ids": SAMPLE_IDS},
            {"max_tokens": None, "max_overlap": 1.0, "copies": "keep"},
            {"num_tokens": 10, "ratio": 1.0, "overlap": 1.0, "copy": True},
        ),
        (
            {"completion_ids": [1, 2, 3, 4, 1, 2, 3, 4]},
            {"max_repeats": 1},
            {
                "num_tokens": 8,
                "ratio": 0.8,
                "overlap": 0.0,
                "repetition": True,
                "keep": False,
                "reason": "repetition",
            },
        ),
        (
            {"completion_ids": [1, 2, 3, 4, 1, 2, 3, 4]},
            {},
            {"num_tokens": 8, "ratio": 0.8, "overlap": 0.0},
        ),
        (
            {"sample_text": WRONG},
            {},
            {"sample_answer": "5", "sample_verdict": "wrong"},
        ),
    ],
)
def test_verdicts(row, settings, columns):
    expected = table.frame_of([{**KEPT, **columns}], schema.FILTER)
    found = judged(row_of(**row), **settings)
    assert found.to_dicts() == expected.to_dicts()
    assert found.schema == expected.schema


def test_reason_is_the_first_check_that_failed():
    everything = row_of(
        completion_ids=[1, 2, 3, 4] * 3,
        sample_ids=[1, 2, 3, 4] * 2,
        rewrite="the draft",
        text=WRONG,
    )
    loose = {}
    reasons = []
    for change in (
        {},
        {"max_tokens": None},
        {"kept": "all"},
        {"max_ratio": 2.0},
        {"min_ratio": 0.0},
        {"max_overlap": 1.0},
        {"leaks": []},
        {"max_repeats": 3},
    ):
        loose |= change
        reasons.append(judged(everything, **loose)["reason"].item())
    assert reasons == [
        "too_long",
        "wrong_answer",
        "ratio_too_high",
        "overlap",
        "overlap",
        "leak",
        "repetition",
        "kept",
    ]


def test_answers_without_think_tags():
    row = row_of(text="It is \\boxed{4}.", sample_text="Answer: 4")
    plain = {"think": "none", "close": ""}
    assert judged(row, chat=plain)["reason"].to_list() == ["kept"]
    assert judged(row)["reason"].to_list() == ["answer_none"]


def test_answers_are_verified_as_mathematics():
    text = "<think>\nx\n</think>\n\n\\boxed{\\frac{2}{4}}"
    rows = [row_of(gold="0.5", text=text), row_of(gold="\\frac{1}{3}", text=text, candidate=1)]
    found = judged(*rows)
    assert found["verdict"].to_list() == ["correct", "wrong"]
    assert found["reason"].to_list() == ["kept", "wrong_answer"]
    assert found["sample_verdict"].to_list() == ["wrong", "wrong"]


@pytest.mark.parametrize(
    ("tokens", "keep", "reasons"),
    [
        ([5, 3, 4], 1, ["longer_candidate", "kept", "longer_candidate"]),
        ([3, 3, 3], 0, ["kept", "longer_candidate", "longer_candidate"]),
        ([4, 3, 3], 1, ["longer_candidate", "kept", "longer_candidate"]),
    ],
)
def test_the_shortest_candidate_is_kept(tokens, keep, reasons):
    rows = [
        row_of(candidate=number, completion_ids=list(range(20, 20 + length)))
        for number, length in enumerate(tokens)
    ]
    found = judged(*rows)
    assert found["reason"].to_list() == reasons
    assert found["keep"].to_list() == [number == keep for number in range(3)]
    # Among equals the first by number, in whatever order the rows come.
    found = judged(*reversed(rows))
    assert found["candidate"].to_list() == [2, 1, 0]
    assert found.filter("keep")["candidate"].to_list() == [keep]


def test_a_shorter_candidate_that_fails_does_not_count():
    rows = [
        row_of(candidate=0, completion_ids=[20, 21, 22, 23]),
        row_of(candidate=1, completion_ids=[20, 21, 22], text=WRONG),
        row_of(sample_id="p-1", candidate=0, text=WRONG),
        row_of(sample_id="p-2", candidate=0, completion_ids=[20, 21, 22, 23, 24]),
    ]
    found = judged(*rows)
    assert found.select("sample_id", "candidate", "keep", "reason").rows() == [
        ("p-0", 0, True, "kept"),
        ("p-0", 1, False, "wrong_answer"),
        ("p-1", 0, False, "wrong_answer"),
        ("p-2", 0, True, "kept"),
    ]


def test_choose_shortest_keeps_columns_and_order():
    frame = table.frame_of(
        [
            {**KEPT, "sample_id": name, "keep": False, "num_tokens": tokens, "candidate": candidate}
            for name, candidate, tokens in [("b", 0, 2), ("a", 1, 7), ("b", 1, 1), ("a", 0, 9)]
        ],
        schema.FILTER,
    )
    found = choose_shortest(frame)
    assert found.drop("keep", "reason").equals(frame.drop("keep", "reason"))
    assert found.columns == schema.FILTER.names
    assert found["keep"].to_list() == [False, True, True, False]


def test_several_workers_give_the_verdicts_of_one():
    golds = ["0.5", "\\frac{1}{3}", "2^{100}", "\\sqrt{2}", "4"]
    text = "<think>\nx\n</think>\n\n\\boxed{\\frac{2}{4}}"
    rows = [row_of(gold=gold, text=text, candidate=place) for place, gold in enumerate(golds)]
    frame = pl.DataFrame(rows, schema_overrides=ROW_SCHEMA, infer_schema_length=None)
    with Grader(num_workers=3) as grader:
        several = verdicts(frame, SETTINGS, grader)
    assert several.equals(judged(*rows))
    assert several["verdict"].to_list() == ["correct"] + ["wrong"] * 4


def test_no_rows_are_no_verdicts():
    frame = pl.DataFrame([row_of()], schema_overrides=ROW_SCHEMA).clear()
    with Grader() as grader:
        found = verdicts(frame, SETTINGS, grader)
    assert found.equals(table.frame_of([], schema.FILTER))


PROBLEMS = table.frame_of(
    [
        {"problem_id": name, "question": f"{name}?", "gold": "4", "source_row": number}
        for number, name in enumerate("pqr")
    ],
    schema.PROBLEMS,
)
SAMPLES = table.frame_of(
    [
        {
            "sample_id": f"{name}-0",
            "problem_id": name,
            "sample_index": 0,
            "prompt_ids": [1],
            "completion_ids": SAMPLE_IDS,
            "logprobs": [-0.5] * 10,
            "text": SAMPLE_TEXT,
            "finish_reason": "stop",
            "num_tokens": 10,
        }
        for name in "pq"
    ],
    schema.SAMPLE,
)
CANDIDATES = table.frame_of(
    [
        {
            "sample_id": f"{name}-0",
            "candidate": candidate,
            "status": "ok",
            "rewrite": "x\n\\boxed{4}",
            "rewrite_tokens": 5,
            "text": text,
            "completion_ids": [10, 11, 12, 20],
            "num_tokens": 4,
        }
        for name, candidate, text in [("q", 0, WRONG), ("q", 1, RIGHT), ("p", 0, RIGHT)]
    ],
    schema.COMPRESS,
)


def test_joined_has_a_row_for_each_candidate_in_their_order():
    rows = with_samples_and_problems(PROBLEMS, SAMPLES, CANDIDATES)
    assert rows.select(CANDIDATES.columns).equals(CANDIDATES)
    columns = ("problem_id", "question", "gold", "sample_text", "sample_tokens")
    assert rows.select(columns).rows() == [
        ("q", "q?", "4", SAMPLE_TEXT, 10),
        ("q", "q?", "4", SAMPLE_TEXT, 10),
        ("p", "p?", "4", SAMPLE_TEXT, 10),
    ]
    assert rows["sample_ids"].to_list() == [SAMPLE_IDS] * 3


@pytest.mark.parametrize(
    ("problems", "samples", "candidates", "counts"),
    [
        (PROBLEMS, SAMPLES.head(1), CANDIDATES, (1, 2, 1, 3)),
        (PROBLEMS, SAMPLES, CANDIDATES.tail(1), (2, 1, 1, 1)),
        (PROBLEMS.tail(2), SAMPLES, CANDIDATES, (2, 2, 2, 3)),
        (PROBLEMS, SAMPLES.with_columns(sample_id=pl.lit("z-") + pl.col("sample_id")), CANDIDATES,
         (2, 2, 0, 3)),
    ],
    ids=["sample missing", "candidates missing", "problem missing", "other samples"],
)  # fmt: skip
def test_joined_refuses_other_shards(problems, samples, candidates, counts):
    with pytest.raises(ValueError) as caught:
        with_samples_and_problems(problems, samples, candidates)
    num_samples, with_candidates, found, num_candidates = counts
    assert str(caught.value) == (
        f"{num_samples} samples, {with_candidates} of them with candidates, {found} of "
        f"{num_candidates} candidates with sample and problem: problems, sample and compress do "
        "not belong to one shard; give files of one shard"
    )


def test_main(tmp_path, caplog):
    caplog.set_level("INFO", "mpd")
    inputs = {
        "problems": (PROBLEMS, schema.PROBLEMS),
        "sample": (SAMPLES, schema.SAMPLE),
        "compress": (CANDIDATES, schema.COMPRESS),
    }
    arguments = ["--settings", SETTINGS.model_dump_json(), "--store", str(tmp_path / "store")]
    written = {}
    for name, (frame, artifact) in inputs.items():
        written[name] = table.write(tmp_path / name, frame, artifact, dict(written))
        arguments += [f"--{name}", str(tmp_path / name)]
    output = tmp_path / "out.parquet"
    filter_stage.main([*arguments, "--output", str(output)])
    rows = [
        {
            **KEPT,
            "sample_id": "q-0",
            "problem_id": "q",
            "answer": "5",
            "verdict": "wrong",
            "correct": False,
            "keep": False,
            "reason": "wrong_answer",
        },
        {**KEPT, "sample_id": "q-0", "problem_id": "q", "candidate": 1},
        KEPT,
    ]
    assert table.read(output, schema.FILTER).to_dicts() == rows
    assert caplog.messages[-1] == "kept 2 of 3 candidates"
    identity = table.check(output, schema.FILTER)["identity"]
    assert identity == written

    filter_stage.main([*arguments, "--output", str(tmp_path / "again.parquet")])
    assert caplog.messages[-2].startswith("reused filter ")
    assert (tmp_path / "again.parquet").stat().st_ino == output.stat().st_ino


def test_rewrites_of_another_rounds_samples_are_refused(tmp_path):
    """Both have the same sample_ids: only the content tells them apart."""
    other = SAMPLES.with_columns(finish_reason=pl.lit("length"))
    arguments = ["--settings", SETTINGS.model_dump_json(), "--store", str(tmp_path / "store")]
    arguments += ["--output", str(tmp_path / "out.parquet")]
    made_from = {"problems": table.write(tmp_path / "problems", PROBLEMS, schema.PROBLEMS, {})}
    content = table.write(tmp_path / "sample", SAMPLES, schema.SAMPLE, made_from)
    identity = {**made_from, "sample": content}
    table.write(tmp_path / "compress", CANDIDATES, schema.COMPRESS, identity)
    table.write(tmp_path / "sample", other, schema.SAMPLE, made_from)
    for name in ("problems", "sample", "compress"):
        arguments += [f"--{name}", str(tmp_path / name)]
    with pytest.raises(ValueError, match="compress: it was made from sample "):
        filter_stage.main(arguments)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("kept", "text", "status", "reason"),
    [
        ("correct", RIGHT, "ok", "kept"),
        ("correct", WRONG, "ok", "wrong_answer"),
        ("incorrect", RIGHT, "ok", "right_answer"),
        ("incorrect", WRONG, "ok", "kept"),
        ("all", WRONG, "ok", "kept"),
        ("all", "<think>\nx", "sample_truncated", "kept"),
        ("correct", "<think>\nx", "sample_truncated", "sample_truncated"),
        ("incorrect", "<think>\nx", "sample_truncated", "sample_truncated"),
        ("all", RIGHT, "format", "format"),
    ],
)
def test_a_trajectory_that_nobody_rewrote(kept, text, status, reason):
    """It is its own candidate: as long as itself, a copy, and all of it overlaps."""
    own = {"completion_ids": SAMPLE_IDS, "text": text, "status": status, "rewrite": None}
    found = judged(row_of(**own), kept=kept, rewriter="none", max_tokens=None, max_ratio=0.5)
    assert found["reason"].to_list() == [reason]
    assert found["keep"].to_list() == [reason == "kept"]
    assert found["truncated"].to_list() == [status == "sample_truncated"]


def test_a_cut_trajectory_without_ids_is_never_kept():
    row = row_of(status="sample_truncated", **NO_REWRITE)
    assert judged(row, kept="all")["reason"].to_list() == ["sample_truncated"]


def test_all_is_all_loops_too():
    loop = {"completion_ids": [1, 2, 3, 4] * 4, "text": "<think>", "status": "sample_truncated"}
    own = {"rewriter": "none", "max_tokens": None}
    found = judged(row_of(**loop, rewrite=None), kept="all", **own)
    assert found.select("repetition", "reason").rows() == [(True, "kept")]
    whole = {**loop, "text": RIGHT, "status": "ok"}
    found = judged(row_of(**whole, rewrite=None), kept="correct", **own)
    assert found["reason"].to_list() == ["repetition"]
    found = judged(row_of(**whole), kept="all", max_tokens=None, max_ratio=9.0)
    assert found["reason"].to_list() == ["repetition"]  # what a rewriter wrote


def test_a_refinement_may_be_as_long_as_its_draft_and_the_same():
    for ids in (SAMPLE_IDS * 3, SAMPLE_IDS, SAMPLE_IDS[:1]):
        asked = {"instruction": "refine", "max_tokens": None, "max_repeats": 9}
        found = judged(row_of(completion_ids=ids), **asked)
        assert found["reason"].to_list() == ["kept"]


def write_shard(folder, samples, candidates):
    """The arguments of the stage for a shard in a new folder, but for the output."""
    folder.mkdir()
    inputs = {
        "problems": (PROBLEMS, schema.PROBLEMS),
        "sample": (samples, schema.SAMPLE),
        "compress": (candidates, schema.COMPRESS),
    }
    arguments = ["--settings", SETTINGS.model_dump_json(), "--store", str(folder / "store")]
    written = {}
    for name, (frame, artifact) in inputs.items():
        written[name] = table.write(folder / name, frame, artifact, dict(written))
        arguments += [f"--{name}", str(folder / name)]
    return arguments


def repeated(number):
    """So many samples, of which each has one, two or three candidates, the shortest somewhere."""
    samples = pl.concat(
        SAMPLES.head(1).with_columns(sample_id=pl.lit(f"p-{row}")) for row in range(number)
    )
    candidates = pl.concat(
        CANDIDATES[place : place + 1].with_columns(
            sample_id=pl.lit(f"p-{row}"),
            candidate=pl.lit(place, pl.Int32),
            completion_ids=pl.lit(list(range(20, 23 + (row + place) % 5)), pl.List(pl.Int32)),
            num_tokens=pl.lit(3 + (row + place) % 5, pl.Int32),
        )
        for row in range(number)
        for place in range(1 + row % 3)
    )
    return samples, candidates


class Stopped(Exception):
    """The job was stopped."""


@pytest.mark.parametrize("order", ["in order", "by candidate", "reversed"])
def test_parts_change_no_byte_and_never_split_a_sample(tmp_path, monkeypatch, order):
    samples, candidates = repeated(20)
    if order == "by candidate":
        candidates = candidates.sort("candidate", maintain_order=True)
    if order == "reversed":
        candidates = candidates.reverse()
    contents, sizes = [], []

    def noted(rows, *more, **settings):
        sizes[-1].append(len(rows))
        return verdicts(rows, *more, **settings)

    monkeypatch.setattr(filter_stage, "verdicts", noted)
    # A row costs 413 to 417: all rows in one part, parts of at most five rows, of one sample each.
    for limit in (10**6, 5 * 417, 1):
        monkeypatch.setattr(filter_stage, "PART_TOKENS", limit)
        arguments = write_shard(tmp_path / str(limit), samples, candidates)
        sizes.append([])
        output = tmp_path / str(limit) / "out.parquet"
        filter_stage.main([*arguments, "--output", str(output)])
        contents.append(output.read_bytes())
    assert contents[0] == contents[1] == contents[2]
    kept = table.read(output, schema.FILTER)
    assert kept.select("sample_id", "candidate").equals(candidates.select("sample_id", "candidate"))
    assert kept["keep"].sum() == kept.filter("keep")["sample_id"].n_unique() == 13
    assert [len(candidates)] == sizes[0]
    if order == "in order":
        assert len(sizes[1]) > 7 and max(sizes[1]) <= 5
        assert sizes[2] == [1 + row % 3 for row in range(20)]
    else:  # elsewhere than behind the only candidate of p-0, a cut would split samples
        assert sizes[1] == sizes[2] == ([1, 38] if order == "by candidate" else [39])


def test_a_stopped_filter_resumes_behind_its_last_part(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "mpd")
    monkeypatch.setattr(filter_stage, "PART_TOKENS", 5 * 417)
    samples, candidates = repeated(20)
    undisturbed = tmp_path / "undisturbed" / "out.parquet"
    arguments = write_shard(undisturbed.parent, samples, candidates)
    filter_stage.main([*arguments, "--output", str(undisturbed)])
    judged_rows = []

    def stopping(rows, *more, **settings):
        if len(judged_rows) == 3:
            raise Stopped
        judged_rows.append(rows["sample_id"].to_list())
        return verdicts(rows, *more, **settings)

    monkeypatch.setattr(filter_stage, "verdicts", stopping)
    output = tmp_path / "stopped" / "out.parquet"
    arguments = [*write_shard(output.parent, samples, candidates), "--output", str(output)]
    with pytest.raises(Stopped):
        filter_stage.main(arguments)
    before = sum(map(len, judged_rows))
    judged_rows[:] = []
    monkeypatch.setattr(filter_stage, "verdicts", verdicts)
    caplog.clear()
    filter_stage.main(arguments)
    assert before > 9
    assert any(message.startswith("resumed: 3 of ") for message in caplog.messages)
    assert output.read_bytes() == undisturbed.read_bytes()


RUN = "import sys\nfrom mpd.filter import main\nmain(sys.argv[1:])"


def test_memory_does_not_grow_with_the_shard(tmp_path):
    """Long samples without rewrites."""
    peaks = []
    for number in (300, 2400):
        names = pl.Series([f"p-{row}" for row in range(number)])
        ids = pl.Series([list(range(row, row + 8000)) for row in range(number)], dtype=INTEGERS)
        samples = pl.concat([SAMPLES[:1]] * number).with_columns(
            sample_id=names,
            completion_ids=ids,
            num_tokens=pl.lit(8000, pl.Int32),
            text=pl.Series([f"{row} " + "x = 1 + " * 3000 for row in range(number)]),
        )
        candidates = pl.concat([CANDIDATES[-1:]] * number).with_columns(
            sample_id=names,
            status=pl.lit("sample_truncated"),
            **{name: pl.lit(None, CANDIDATES.schema[name]) for name in NO_REWRITE},
        )
        arguments = write_shard(tmp_path / str(number), samples, candidates)
        output = ["--output", str(tmp_path / str(number) / "out.parquet")]
        peaks.append(peak_megabytes(RUN, [*arguments, *output]))
    assert peaks[1] - peaks[0] < 120  # MB; the rows that are more, in one part: over 300
