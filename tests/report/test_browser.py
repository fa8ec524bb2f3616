import base64
import hashlib
import json
import math
import random
import re
import zlib
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mpd.job.layout import Experiment
from mpd.report import browser, browser_packing, browser_section
from mpd.report.page import markup
from mpd.scoring.token_records import token_record
from mpd.store import schema, table
from mpd.store.signs import SIGNS
from tests.test_report import words_of
from tests.text.test_token_texts import tokenizer_of

HOSTILE = "</script><img src=x onerror=alert(1)><!-- \u2028 ]]>"
WORDS = ["<unk>", "go ", "7", HOSTILE, "\n", "<|end|>"]


@pytest.fixture(scope="session")
def words():
    """A tokenizer whose tokens are WORDS."""
    return tokenizer_of(WORDS)


def verdict(number, **changes):
    """A kept row of `filter`: trajectory `number` of problem p0."""
    problem = changes.get("problem_id", "p0")
    return {
        "sample_id": f"{problem}-{number}",
        "candidate": 0,
        "problem_id": problem,
        "gold": "7",
        "sample_answer": "8",
        "sample_verdict": "wrong",
        "answer": "7",
        "verdict": "correct",
        "correct": True,
        **dict.fromkeys(("truncated", "too_long", "leak", "copy", "repetition"), False),
        "format": True,
        "sample_tokens": 8,
        "num_tokens": 4,
        "ratio": 0.5,
        "overlap": 0.25,
        "keep": True,
        "reason": "kept",
        **changes,
    }


# Two positions of a union support: "7" realised, where the teacher is torn between it and "go ",
# and the stop token, of which it is sure.
CACHED = {
    "completion_ids": [2, 5],
    "control_ids": [5],
    "support_size": [2, 0],
    "support_ids": [1, 3],
    "support_logprobs": [math.log(0.5), math.log(0.0625)],
    "tail_logprobs": [math.log(0.03125), math.log(0.03125), -40.0, -40.0],
    "realised_logprob": [math.log(0.25), 0.0],
    "control_logprobs": [math.log(0.125), 0.0],
    "student_logprob": [-2.0, -0.5],
    "divergence": [1.5, 0.25],
}


def cached(sample_id, candidate=0, **changes):
    """A row of `logits` with the lists of CACHED."""
    return {
        **dict.fromkeys(schema.LOGITS.names),
        "sample_id": sample_id,
        "candidate": candidate,
        "prompt_ids": [1],
        "num_tokens": 2,
        "ids_digest": "",
        "mean_teacher_logprob": -0.75,
        "stop_logprob": 0.0,
        **CACHED,
        **changes,
    }


def sampled(number, text, problem="p0"):
    return {
        "sample_id": f"{problem}-{number}",
        "problem_id": problem,
        "sample_index": number,
        "prompt_ids": [1],
        "completion_ids": [1],
        "logprobs": None,
        "text": text,
        "finish_reason": "stop",
        "num_tokens": 8,
    }


def rewritten(sample_id, text, candidate=0, **changes):
    return {
        "sample_id": sample_id,
        "candidate": candidate,
        "status": "ok",
        "rewrite": text,
        "rewrite_tokens": 4,
        "text": text,
        "completion_ids": [2, 5],
        "num_tokens": 2,
        **changes,
    }


def write_round(folder, **rows):
    """The files of a round in one shard from the rows of each stage; returns them by kind."""
    paths = {}
    for stage, of_stage in rows.items():
        artifact = getattr(schema, stage.upper())
        path = folder / stage / "shard_0.parquet"
        frame = (
            of_stage if isinstance(of_stage, pl.DataFrame) else table.frame_of(of_stage, artifact)
        )
        table.write(path, frame, artifact, {})
        paths[stage] = [path]
    return paths


def problems_of(**questions):
    rows = [
        {"problem_id": name, "question": question, "gold": "7", "source_row": row}
        for row, (name, question) in enumerate(questions.items())
    ]
    return table.frame_of(rows, schema.PROBLEMS)


def round_of(method="mpd", seed=0, round=1):
    return Experiment(Path("results/tiny")).round(method, seed, round)


ROUND = round_of()


def filter_frame(*rows):
    return table.frame_of(rows, schema.FILTER)


def scores_of(*rows):
    return browser.scores_of(table.frame_of(rows, schema.LOGITS))


def lines_of(*verdicts, **place):
    return browser.lines_of(round_of(**place).place, filter_frame(*verdicts), scores_of())


def unpack(text):
    return json.loads(zlib.decompress(base64.b64decode(text), wbits=-15))


def blocks_of(section):
    """The packed data of a section by name, unpacked."""
    return {name: unpack(packed) for name, packed in section.blocks.items()}


def drawn(section):
    """The section of the page, and the script after it."""
    return markup.rendered("trajectories.html", browser=section) + markup.rendered("script.html")


def test_scores_are_means_over_tokens_and_null_where_vllm_scored():
    scores = scores_of(cached("a-0"), cached("b-0", candidate=2, divergence=None))
    assert scores.rows() == [("a-0", 0, 0.875, -0.75), ("b-0", 2, None, -0.75)]


def test_lines_hold_verdict_place_and_scores():
    verdicts = filter_frame(verdict(0), verdict(1, candidate=1, reason="copy", num_tokens=None))
    lines = browser.lines_of(round_of("opd", 3, 2).place, verdicts, scores_of(cached("p0-0")))
    assert lines.rows(named=True) == [
        {
            "sample_id": f"p0-{number}",
            "candidate": number,
            "problem_id": "p0",
            "sample_verdict": "wrong",
            "verdict": "correct",
            "sample_tokens": 8,
            "num_tokens": tokens,
            "reason": reason,
            "divergence": divergence,
            "teacher_logprob": logprob,
            "scored": scored,
            "method": "opd",
            "seed": 3,
            "round": 2,
        }
        for number, tokens, reason, divergence, logprob, scored in [
            (0, 4, "kept", 0.875, -0.75, True),
            (1, None, "copy", None, None, False),
        ]
    ]


def test_solved_counts_each_trajectory_once_over_the_seeds_of_a_round():
    right = {"sample_verdict": "correct"}
    lines = pl.concat(
        [
            lines_of(verdict(0, **right), verdict(0, candidate=1, **right), verdict(1), seed=0),
            lines_of(verdict(0), verdict(1), seed=1),
            lines_of(verdict(0, **right), seed=1, round=2),
            lines_of(verdict(0), verdict(0, problem_id="p1", **right), method="opd"),
        ]
    )
    solved = browser.with_solved(lines)["solved"].to_list()
    assert solved == [*[0.25] * 5, 1.0, 0.0, 1.0]


def test_each_stratum_comes_in_turn_and_rows_in_any_order_give_the_same():
    lines = pl.concat(
        [
            lines_of(*(verdict(number) for number in range(6))),
            lines_of(*(verdict(number, reason="copy") for number in range(6, 8))),
            lines_of(verdict(0), seed=1),
        ]
    )
    taken = browser.in_turn(lines)
    reasons = [(row["seed"], row["reason"]) for row in taken.to_dicts()]
    assert sorted(reasons[:3]) == [(0, "copy"), (0, "kept"), (1, "kept")]
    assert sorted(reasons[3:5]) == [(0, "copy"), (0, "kept")]
    assert reasons[5:] == [(0, "kept")] * 4
    assert_frame_equal(browser.in_turn(lines.reverse()), taken)


def test_within_takes_from_the_front_until_the_budget_is_spent():
    lines = pl.DataFrame({"cost": [3, 4, 5, 1]})
    assert browser.within(lines, pl.col("cost"), 11)["cost"].to_list() == [3, 4]
    assert browser.within(lines, pl.col("cost"), 2)["cost"].to_list() == []


def test_costs_of_a_line_without_a_rewrite():
    lines = lines_of(verdict(0), verdict(1, num_tokens=None))
    assert lines.select(browser.text_cost()).to_series().to_list() == [52, 48]
    assert lines[:1].select(browser.token_cost()).item() == 44


def test_index_names_things_once():
    verdicts = [
        verdict(3, sample_verdict="correct"),
        verdict(0, problem_id="p1", reason="copy", num_tokens=None),
    ]
    lines = browser.lines_of(
        round_of(seed=2).place, filter_frame(*verdicts), scores_of(cached("p0-3"))
    )
    lines = browser.with_solved(pl.concat([lines, lines_of(verdict(0), method="opd")]))
    problems = problems_of(p1=HOSTILE, p0="x" * 400, unused="?")
    assert browser.index_of(lines, problems, "tiny") == {
        "signs": SIGNS,
        "rounds": [
            ["mpd", 2, 1, "results/tiny/mpd/seed_2/round_1"],
            ["opd", 0, 1, "results/tiny/opd/seed_0/round_1"],
        ],
        "problems": {"id": ["p0", "p1"], "question": ["x" * 300, HOSTILE]},
        "round": [0, 0, 1],
        "problem": [0, 1, 0],
        "sample": ["3", "0", "0"],
        "candidate": [0, 0, 0],
        "sample_tokens": [8, 8, 8],
        "num_tokens": [4, None, 4],
        "divergence": [875, None, None],
        "teacher_logprob": [750, None, None],
        "solved": [1.0, 0.0, 0.0],
        "reason": {"names": ["copy", "kept"], "lines": [1, 0, 1]},
        "verdict": {"names": ["correct"], "lines": [0, 0, 0]},
        "sample_verdict": {"names": ["correct", "wrong"], "lines": [0, 1, 1]},
    }


TEXTS = {
    "question": "1+6?",
    "gold": "7",
    "sample_answer": None,
    "answer": "7",
    "finish_reason": "stop",
    "status": "ok",
    "overlap": 0.5,
}


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (("long", "raw", "short"), {"same": False, "rewrite": "short"}),
        (("same", "same", "same"), {"same": True, "rewrite": None}),
        (("long", "raw", None), {"same": False, "rewrite": "raw"}),
        (("long", None, None), {"same": False, "rewrite": None}),
    ],
)
def test_text_record(texts, shown):
    row = dict(zip(("sample_text", "rewrite", "text"), texts, strict=True))
    record = browser.text_record({**TEXTS, **row})
    assert record == {**TEXTS, "trajectory": texts[0], **shown}


def test_packed_is_inflated_to_what_it_was_and_holds_no_markup():
    text = browser_packing.deflated(browser_packing.as_json({"text": HOSTILE}))
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", text)
    assert unpack(text) == {"text": HOSTILE}


def test_chunks_are_cut_by_size_and_end_with_the_budget(words, monkeypatch):
    monkeypatch.setattr(browser_packing, "CHUNK_CHARACTERS", 300)
    records = [(line, token_record(CACHED)) for line in (5, 3, 8, 1, 0)]
    chunks = browser_packing.chunks_of(records, 10_000, words)
    assert [chunk.lines for chunk in chunks] == [[5, 3, 8], [1, 0]]
    assert unpack(chunks[1].packed) == {
        "records": [token_record(CACHED)] * 2,
        "texts": {"1": "go ", "2": "7", "3": HOSTILE, "5": "<|end|>"},
    }
    size = len(chunks[0].packed)
    assert browser_packing.chunks_of(records, size, words) == chunks[:1]
    assert browser_packing.chunks_of(records, size - 1, words) == []


@pytest.fixture
def trained(tmp_path):
    """A round of two problems: one rewrite kept, one candidate wrong, one not rewritten."""
    files = write_round(
        tmp_path,
        sample=[sampled(0, "long " + HOSTILE), sampled(0, "cut", problem="p1")],
        compress=[
            rewritten("p0-0", "short " + HOSTILE),
            rewritten("p0-0", "wrong", candidate=1),
            rewritten("p1-0", None, status="sample_truncated", num_tokens=None),
        ],
        filter=[
            verdict(0),
            verdict(0, candidate=1, reason="wrong_answer"),
            verdict(0, problem_id="p1", num_tokens=None, reason="sample_truncated"),
        ],
        logits=[cached("p0-0")],
    )
    return {ROUND: files}


PROBLEMS = problems_of(p0=HOSTILE, p1="1+6?")


def test_data_holds_every_line_with_texts_and_tokens(trained, words):
    found = browser_section.browser_data("tiny", trained, PROBLEMS, words)
    blocks = blocks_of(found)
    assert list(blocks) == ["index", "texts-0", "tokens-0"]
    index = blocks["index"]
    assert (index["problem"], index["candidate"]) == ([0, 0, 1], [0, 1, 0])
    assert sorted(index["texts"][0]) == [0, 1, 2]
    assert index["tokens"] == [[0]]
    texts = dict(zip(index["texts"][0], blocks["texts-0"]["records"], strict=True))
    assert [texts[line]["trajectory"] for line in range(3)] == [*["long " + HOSTILE] * 2, "cut"]
    assert [texts[line]["rewrite"] for line in range(3)] == ["short " + HOSTILE, "wrong", None]
    assert [texts[line]["status"] for line in range(3)] == ["ok", "ok", "sample_truncated"]
    assert [texts[line]["question"] for line in range(3)] == [HOSTILE, HOSTILE, "1+6?"]
    assert blocks["tokens-0"]["records"] == [token_record(table_row(trained))]
    assert found.counts == (3, "all", "all", "all")
    note = "Rewrites: 3. In this list: all. With texts: all. "
    assert f"{note}With tokens, of those that were scored: all.</p>" in words_of(drawn(found))


def test_data_finds_each_line_in_its_round_and_shard(tmp_path, words):
    def files_of(name, numbers):
        """A round with a shard for each number, whose texts tell where they are from."""
        shards = [
            write_round(
                tmp_path / name / str(number),
                sample=[sampled(number, f"{name} {number}")],
                compress=[rewritten(f"p0-{number}", "short")],
                filter=[verdict(number)],
                logits=[cached(f"p0-{number}", completion_ids=[number, 5])],
            )
            for number in numbers
        ]
        return {kind: [shard[kind][0] for shard in shards] for kind in shards[0]}

    trained = {
        ROUND: files_of("first", [1, 2]),
        round_of(round=2): files_of("second", [2, 1]),
        round_of(seed=7): files_of("seventh", [3]),
    }
    blocks = blocks_of(browser_section.browser_data("tiny", trained, PROBLEMS, words))
    index = blocks["index"]
    texts, tokens = (
        dict(zip(index[kind][0], blocks[f"{kind}-0"]["records"], strict=True))
        for kind in ("texts", "tokens")
    )
    found = [
        (index["rounds"][round][1:3], sample, texts[line]["trajectory"], tokens[line]["ids"][0])
        for line, (round, sample) in enumerate(zip(index["round"], index["sample"], strict=True))
    ]
    assert found == [
        ([0, 1], "1", "first 1", 1),
        ([0, 1], "2", "first 2", 2),
        ([7, 1], "3", "seventh 3", 3),
        ([0, 2], "1", "second 1", 1),
        ([0, 2], "2", "second 2", 2),
    ]


def table_row(trained):
    """The cached row as the file gives it back, in float32."""
    return table.read(trained[ROUND]["logits"][0], schema.LOGITS).to_dicts()[0]


def test_data_is_the_same_bytes_again_and_holds_nothing_that_a_model_wrote(trained, words):
    found = browser_section.browser_data("tiny", trained, PROBLEMS, words)
    assert browser_section.browser_data("tiny", trained, PROBLEMS, words) == found
    text = drawn(found)
    assert "onerror" not in text
    assert "\u2028" not in text
    tags = re.findall(r"</?script[^>]*>", text)
    assert tags[-2:] == ["<script>", "</script>"]
    data = [tag for tag in tags[:-2] if tag != "</script>"]
    assert all(tag.startswith('<script type="application/octet-stream" id="data-') for tag in data)


def test_the_data_and_the_script_stand_in_the_page_letter_by_letter(trained, words):
    found = browser_section.browser_data("tiny", trained, PROBLEMS, words)
    data = re.findall(
        r'<script type="application/octet-stream" id="data-([^"]+)">([^<]*)</script>', drawn(found)
    )
    assert dict(data) == found.blocks
    assert drawn(found).count(f"<script>{markup.script()}</script>") == 1


def test_the_policy_names_the_script_of_the_page():
    digest = base64.b64encode(hashlib.sha256(markup.script().encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline';"
    assert f'content="{policy} base-uri' in markup.rendered("head.html")


def test_data_says_of_how_many_it_holds_texts_and_tokens(trained, words, monkeypatch):
    monkeypatch.setattr(browser_packing, "CHUNK_CHARACTERS", 1)
    monkeypatch.setattr(browser_section, "TEXT_BYTES", 700)
    monkeypatch.setattr(browser_section, "TOKEN_BYTES", 10)
    found = browser_section.browser_data("tiny", trained, PROBLEMS, words)
    assert len(blocks_of(found)["index"]["texts"]) == 2
    assert found.counts == (3, "all", "2 of 3", "0 of 1")
    text = words_of(drawn(found))
    assert (
        "With texts: 2 of 3. With tokens, of those that were scored: 0 of 1. The sample is" in text
    )
    assert "<code>python -m mpd.show</code> prints the others." in text


def test_list_is_a_sample_where_there_are_too_many_lines(trained, words, monkeypatch):
    monkeypatch.setattr(browser, "MAX_LINES", 2)
    found = browser_section.browser_data("tiny", trained, PROBLEMS, words)
    assert len(blocks_of(found)["index"]["round"]) == 2
    assert found.counts[:3] == (3, "2 of 3", "2 of 3")


def test_the_file_stays_small_whatever_the_questions_are():
    """The longest list, each line with its own problem, in characters that cannot be deflated."""
    draw = random.Random(0)
    number = pl.int_range(browser.MAX_LINES, eager=True).cast(pl.String)
    names = [f"{draw.getrandbits(64):016x}" for _ in range(browser.MAX_LINES)]
    letters = "".join(chr(0x1F000 + draw.randrange(0xFFF)) for _ in range(10_000))
    questions = [letters[start : start + 300] for start in range(9_000)]
    problems = pl.DataFrame(
        {"problem_id": names, "question": draw.choices(questions, k=browser.MAX_LINES)}
    )
    lines = browser.with_solved(
        lines_of(verdict(0))
        .select(pl.all().exclude("sample_id", "problem_id"))
        .join(
            pl.DataFrame({"problem_id": names, "sample_id": pl.Series(names) + "-" + number}),
            how="cross",
        )
    )
    size = len(
        browser_packing.deflated(browser_packing.as_json(browser.index_of(lines, problems, "")))
    )
    assert size + browser_section.TEXT_BYTES + browser_section.TOKEN_BYTES < 19_000_000


def test_data_of_nothing_trained(words):
    found = browser_section.browser_data("tiny", {}, PROBLEMS, words)
    text = markup.rendered("trajectories.html", browser=found)
    assert text == "<p>No round was trained.</p>\n"


def test_data_of_an_empty_cache(tmp_path, words):
    files = write_round(
        tmp_path,
        sample=[sampled(0, "long")],
        compress=[rewritten("p0-0", "short")],
        filter=[verdict(0, reason="copy")],
        logits=[],
    )
    found = browser_section.browser_data("tiny", {ROUND: files}, PROBLEMS, words)
    assert list(blocks_of(found)) == ["index", "texts-0"]


def test_assets_load_nothing_and_set_no_markup():
    styles = markup.asset("page.css") + markup.asset("browser.css")
    code = markup.script() + styles
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "eval(",
        "http:",
        "https:",
        "url(",
    ):
        assert word not in code
    for word in ("</script", "<script", "<!--"):
        assert word not in markup.script().lower()
    assert "</style" not in styles.lower()
