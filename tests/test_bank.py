"""bank: the stage over shards of several rounds, and the routes that compress takes."""

import json
import logging

import pytest

from mpd import bank, compress, models
from mpd.config.compress import TeacherRewrite
from mpd.store import schema, table
from mpd.store.model_folder import read_manifest, write_manifest
from mpd.text.questions import problem_id
from mpd.text.rationales import route_of
from tests.bank import rationale, write_embedder

WORDS = ("add", "take", "+", "-", *map(str, range(10)))
THINKING = r"<think>Of \frac{1}{2} and {5}?</think>"
# By shard and question: the rewrites, each with whether it is right.
ROUND = {
    0: {"1+2": [(rationale("Sums", ("add +",), ("Start", "Now")), True)]},
    1: {
        "5-1": [
            (THINKING + rationale("SUMS", ("take -",), ("So", "Let", "Yes")), True),
            (rationale("Sums", ("take -",), ("Wait", "Let")), False),
        ],
        "6-1": [("no JSON", True)],
    },
}
NEXT = {
    0: {"1+2": [(rationale("Sums", ("add +",), ("Now",), budget=2), True)]},
    1: {"5-1": [(rationale(path=("So", "Let", "Yes")), False)], "6-1": [("", False)]},
}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    folder = write_embedder(tmp_path_factory.mktemp("embedder"), WORDS)
    write_manifest(folder, is_chat_model=False)
    return folder / "manifest.json"


def write_round(folder, shards):
    """Problems, rewrites and verdicts of a round; the paths of each stage, shard by shard."""
    paths = {stage: [] for stage in ("problems", "compress", "filter")}
    for number, rewrites in shards.items():
        problems = [
            {"problem_id": problem_id(question), "question": question, "gold": "2", "source_row": 0}
            for question in rewrites
        ]
        candidates, verdicts = [], []
        for question, texts in rewrites.items():
            for candidate, (text, correct) in enumerate(texts):
                key = {"sample_id": f"{problem_id(question)}-0", "candidate": candidate}
                candidates.append({**key, "rewrite": text, **dict.fromkeys(NULL, None)})
                candidates[-1] |= {"status": "ok" if text else "format", "rewrite_tokens": 1}
                flags = {**dict.fromkeys(FLAGS, False), "correct": correct}
                verdicts.append({**key, "problem_id": problem_id(question), **EMPTY, **flags})
        identity = {}
        for stage, rows in (("problems", problems), ("compress", candidates), ("filter", verdicts)):
            artifact = getattr(schema, stage.upper())
            path = folder / stage / f"shard_{number}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = table.write(path, table.frame_of(rows, artifact), artifact, identity)
            identity = {**identity, stage: content}
            paths[stage].append(path)
    return paths


NULL = ("text", "completion_ids", "num_tokens")
FLAGS = ("truncated", "too_long", "format", "leak", "copy", "repetition", "keep")
EMPTY = {
    **dict.fromkeys(("sample_answer", "answer", "num_tokens", "ratio", "overlap"), None),
    **dict.fromkeys(("gold", "sample_verdict", "verdict", "reason"), ""),
    "sample_tokens": 1,
}


@pytest.fixture
def run(tmp_path, embedder):
    """A function that runs the stage over rounds; it returns the rows of both files."""

    def run(*rounds, **settings):
        written = [write_round(tmp_path / str(n), shards) for n, shards in enumerate(rounds)]
        output = tmp_path / "bank" / "bank.parquet"
        arguments = ["--settings", json.dumps(settings), "--embedder", str(embedder)]
        arguments += ["--problems", *map(str, written[0]["problems"])]
        for stage in ("compress", "filter"):
            arguments += [f"--{stage}", *(str(path) for each in written for path in each[stage])]
        bank.main([*arguments, "--output", str(output), "--store", str(tmp_path / "store")])
        routes = table.read(output.with_name("routes.parquet"), schema.ROUTES)
        return table.read(output, schema.BANK), routes

    return run


def test_right_rationales_of_all_shards_make_the_bank_and_every_problem_is_routed(run, caplog):
    caplog.set_level(logging.INFO)
    paths, routes = run(ROUND)
    first = min(["1+2", "5-1"], key=problem_id)  # whose spelling of the category counts
    category = {"1+2": "Sums", "5-1": "SUMS"}[first]
    assert paths.rows() == [
        (category, "add +", "Start Now", 1),
        (category, "take -", "So Let Yes", 1),
    ]
    along = route_of(category, "take -", ("So", "Let", "Yes"))
    assert routes.rows() == [
        (problem_id("1+2"), route_of(category, "add +", ("Start", "Now"))),
        (problem_id("5-1"), along),
        (problem_id("6-1"), along),
    ]
    assert "2 paths for 2 intents in 1 categories; 0 more are pending" in caplog.text


def test_later_rounds_add_to_it(run, caplog):
    caplog.set_level(logging.INFO)
    spelled = {0: ROUND[0], 1: {"5-1": [("", False)], "6-1": [("", False)]}}
    paths, _ = run(spelled, NEXT)
    assert paths["path"].to_list() == ["Start Now"]
    assert "1 paths for 1 intents in 1 categories; 1 more are pending" in caplog.text
    paths, _ = run(spelled, NEXT, flush=1)
    assert paths.rows() == [("Sums", "add +", "Start Now", 1), ("Sums", "add +", "Now", 2)]


def test_a_bank_of_nothing_has_no_routes_and_says_so(run, caplog):
    wrong = {number: {key: [("", False)] for key in each} for number, each in ROUND.items()}
    paths, routes = run(wrong)
    assert (len(paths), len(routes)) == (0, 0)
    assert (
        "no right rationale of the rounds before has a path that can be used (0 right, 0 usable), "
        "so that the bank is empty: the teacher is asked as in round 1"
    ) in caplog.text


def test_right_rationales_without_a_usable_path_are_counted(run, caplog):
    named = {"1+2": [(rationale("Sums", (7,)), True)]}
    far = {"5-1": [(rationale(["Sums"]), True)], "6-1": [(rationale(), False)]}
    paths, routes = run({0: named, 1: far})
    assert (len(paths), len(routes)) == (0, 0)
    assert "has a path that can be used (2 right, 0 usable)" in caplog.text


@pytest.mark.parametrize("stage", ["compress", "filter"])
def test_rows_without_a_verdict_are_refused(tmp_path, stage):
    paths = write_round(tmp_path, ROUND)
    path, artifact = paths[stage][1], getattr(schema, stage.upper())
    table.write(path, table.read(path, artifact)[1:], artifact, {})
    shards = list(zip(paths["compress"], paths["filter"], strict=True))
    with pytest.raises(ValueError) as caught:
        bank.right_rationales(shards)
    assert str(caught.value) == (
        f"{paths['compress'][1]}: its rows are not those of {paths['filter'][1]}; the shards do "
        "not belong together"
    )


def test_of_rewrites_only_the_right_ones_are_read(tmp_path, monkeypatch):
    paths, whole, parsed = write_round(tmp_path, ROUND), [], []
    read, parse = table.read_columns, bank.last_rationale
    monkeypatch.setattr(
        table, "read_columns", lambda path, names: whole.extend(names) or read(path, names)
    )
    monkeypatch.setattr(bank, "last_rationale", lambda text: parsed.append(text) or parse(text))
    found = bank.right_rationales(list(zip(paths["compress"], paths["filter"], strict=True)))
    order = sorted(["1+2", "5-1"], key=problem_id)
    by_question = {"1+2": ("Start", "Now"), "5-1": ("So", "Let", "Yes")}
    assert [each.path for each in found] == [by_question[question] for question in order]
    assert "rewrite" not in whole
    rewrites = [each for shard in ROUND.values() for texts in shard.values() for each in texts]
    assert sorted(parsed) == sorted(text for text, is_right in rewrites if is_right)


def test_shards_that_do_not_belong_together_are_refused(tmp_path, embedder):
    written = write_round(tmp_path, ROUND)

    def message_of(**changes):
        paths = {**written, **changes}
        arguments = ["--settings", "{}", "--embedder", str(embedder), "--output", "bank.parquet"]
        for stage, each in paths.items():
            arguments += [f"--{stage}", *map(str, each)]
        with pytest.raises(ValueError) as caught:
            bank.main([*arguments, "--store", str(tmp_path / "store")])
        return str(caught.value)

    assert message_of(compress=written["compress"][:1]) == (
        "2 shards of problems, 1 of rewrites and 2 of verdicts: give all shards of all rounds "
        "before, round by round"
    )
    first, second = written["problems"]
    message = message_of(filter=written["filter"][::-1])
    assert message.startswith(f"{written['filter'][1]}: it was made from problems ")
    assert f", but {first} is " in message
    message = message_of(problems=[second, first])
    assert message.startswith(f"{written['compress'][0]}: it was made from problems ")
    assert f", but {second} is " in message


def test_an_embedder_needs_no_chat_template(tmp_path):
    write_embedder(tmp_path / "own", WORDS)
    output = tmp_path / "embedder" / "manifest.json"
    settings = {"source": "folder", "path": str(tmp_path / "own")}
    arguments = ["--output", str(output), "--store", str(tmp_path / "store")]
    models.main(["--settings", json.dumps({**settings, "embeds": True}), *arguments])
    assert read_manifest(output)["turn_end"] is None
    with pytest.raises(ValueError, match="no chat template"):
        models.main(["--settings", json.dumps(settings), *arguments])


def test_an_embedder_that_gives_no_embeddings_is_refused(tmp_path):
    folder = tmp_path / "own"
    write_embedder(folder, WORDS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "type_vocab_size": 0}))
    settings = {"source": "folder", "path": str(folder), "embeds": True}
    output = ["--output", str(tmp_path / "m" / "manifest.json"), "--store", str(tmp_path / "store")]
    with pytest.raises(ValueError, match=r"own.*cannot embed texts"):
        models.main(["--settings", json.dumps(settings), *output])


@pytest.fixture
def routed(tmp_path, shard):
    """A function that writes routes of the problems of `shard`, or of other ones."""

    def write(problems="", rows=None):
        problems = problems or table.content_digest(shard["problems"], schema.PROBLEMS)
        questions = table.read(shard["problems"], schema.PROBLEMS)["problem_id"]
        route = route_of("Sums", "sum", ("Start", "Now"))
        rows = [{"problem_id": one, "route": route} for one in questions] if rows is None else rows
        path = tmp_path / "routes.parquet"
        identity = {"shards": f"other {problems}"}
        return path, table.write(path, table.frame_of(rows, schema.ROUTES), schema.ROUTES, identity)

    return write


def test_compress_takes_the_routes_of_its_problems(shard, student, routed):
    settings = TeacherRewrite(
        prompt="{problem}", route="{problem}{route}", instruction="structure", rewriter="teacher"
    )
    problems = table.content_digest(shard["problems"], schema.PROBLEMS)
    path, digest = routed()
    assert compress.require_routes(settings, [path], problems) == digest
    rows = compress.read_rows(shard["problems"], shard["sample"], {}, [path])
    assert rows["route"].null_count() == 0
    with pytest.raises(ValueError, match="its routes are not those of problems 0123456789ab;"):
        compress.require_routes(settings, [path], "0123456789abcdef")
    with pytest.raises(ValueError, match="has a prompt for routes, and --routes names 0 files"):
        compress.require_routes(settings, [], problems)
    plain = settings.model_copy(update={"route": None})
    assert compress.require_routes(plain, [], problems) == ""
    with pytest.raises(ValueError, match="has no prompt for routes, and --routes names 1 files"):
        compress.require_routes(plain, [path], problems)


def test_of_an_empty_bank_no_row_has_a_route_and_else_every_row_has(shard, routed):
    path, _ = routed(rows=[])
    rows = compress.read_rows(shard["problems"], shard["sample"], {}, [path])
    assert rows["route"].to_list() == [None] * len(rows)
    path, _ = routed()
    some = table.read(path, schema.ROUTES)[:2].to_dicts()
    path, _ = routed(rows=some)
    with pytest.raises(ValueError, match=r"it lacks problems of .*; run bank again"):
        compress.read_rows(shard["problems"], shard["sample"], {}, [path])
