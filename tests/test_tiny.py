"""The embedded world: task, tokenizer and pretraining."""

import dataclasses
import random
import re
from pathlib import Path

import pytest

from mpd.config.models import PRETRAINING
from mpd.store.digests import digest_of
from mpd.text.vocabulary import Vocabulary
from mpd.tiny import examples, pretrain
from mpd.tiny.examples import (
    STUDENT_CONCISE,
    TEACHER_KINDS,
    TEACHER_THINKING,
    batches,
    student_writer,
    teacher_writer,
)
from mpd.tiny.sizes import CONTEXT_LENGTH
from mpd.tiny.task import (
    MAX_NUMBER,
    MAX_VALUE,
    NUM_PROBLEMS,
    concise_trace,
    draw,
    problems,
    split_of,
    values,
    verbose_trace,
)
from mpd.tiny.tokenizer import build_tokenizer, token_ids, vocabulary
from mpd.tiny.worlds import WORLDS

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_layers": 1,
    "num_heads": 1,
    "num_key_value_heads": 1,
    "num_steps": 6,
    "tokens_per_step": 256,
    "checkpoint_steps": 4,
}


def test_problems_are_a_function_of_split_number_and_seed():
    assert problems("train", 3, seed=5) == problems("train", 4, seed=5)[:3]
    assert problems("train", 50, seed=5) != problems("train", 50, seed=6)
    many = problems("test", 500, seed=1)
    assert len({row["question"] for row in many}) == 500
    for row in many:
        assert split_of(row["question"]) == "test"
        assert row["answer"] == str(eval(row["question"]))
        assert all(0 <= value <= MAX_VALUE for value in values(row["question"]))


def test_the_number_of_problems_is_exact():
    found = {"train": 0, "test": 0}

    def extend(expression: str, value: int, numbers: int) -> None:
        if numbers >= 3:
            found[split_of(expression)] += 1
        if numbers < 6:
            for operand in range(1, MAX_NUMBER + 1):
                for sign, result in (("+", value + operand), ("-", value - operand)):
                    if 0 <= result <= MAX_VALUE:
                        extend(f"{expression}{sign}{operand}", result, numbers + 1)

    for first in range(1, MAX_NUMBER + 1):
        extend(str(first), first, 1)
    assert found == NUM_PROBLEMS


DEFAULTS = {  # version, and digest of sizes, schedule and shares of examples
    ("chains", "student"): (1, "2e3a38d5e5fe98e4"),
    ("chains", "teacher"): (2, "ec5186481da9a0ab"),
    ("stories", "student"): (1, "6d0f2f10d3135563"),
    ("stories", "teacher"): (1, "7a4f5be8e9b16252"),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_model_that_is_another_by_default_has_another_version(world, role):
    """Stored models of the old defaults would be taken for new ones: raise PRETRAINING."""
    default = getattr(WORLDS[world], role)
    found = digest_of([dataclasses.asdict(default.sizes), *default.style])[:16]
    assert (PRETRAINING.get((world, role), 1), found) == DEFAULTS[world, role]


def test_too_many_problems_and_unknown_splits_are_refused():
    with pytest.raises(ValueError, match="88069 problems asked for"):
        problems("test", NUM_PROBLEMS["test"] + 1, seed=0)
    with pytest.raises(ValueError, match="'dev'"):
        problems("dev", 1, seed=0)
    with pytest.raises(ValueError, match="not a chain"):
        values("1*2")


def test_traces():
    assert concise_trace("1+3+4-5+5") == ("1+3=4. 4+4=8. 8-5=3. 3+5=8.", r"\boxed{8}")
    assert verbose_trace("1+3-2", random.Random(0), verbosity=1.0, slip=0.0) == (
        "So the question is 1+3-2. Start with 1. Now add 3 to 1. 1+3=4. Wait, is 1+3=4? Yes. "
        "Now take 2 from 4. 4-2=2. Wait, is 4-2=2? Yes. Let me verify all: 1+3=4. 4-2=2. "
        "So the answer is 2.",
        r"\boxed{2}",
    )


def test_slips_are_noticed_or_carried_on():
    found = {verbose_trace("1+3", random.Random(seed), 0.0, 1.0) for seed in range(60)}
    noticed = {(f"1+3={slip}. Wait, no, 1+3=4.", r"\boxed{4}") for slip in (2, 3, 5, 6)}
    carried_on = {(f"1+3={slip}.", rf"\boxed{{{slip}}}") for slip in (2, 3, 5, 6)}
    assert found == noticed | carried_on


def test_traces_without_slips_are_right():
    rng = random.Random(0)
    for _ in range(300):
        question = draw("train", rng)
        for trace in (concise_trace(question), verbose_trace(question, rng, 0.65, 0.0)):
            assert trace[1] == rf"\boxed{{{eval(question)}}}"


def test_the_acts_of_a_trace_do_not_depend_on_its_slips():
    rng = random.Random(0)
    for seed in range(200):
        question, verbosity = draw("train", rng), rng.random()
        slipped, right = (
            verbose_trace(question, random.Random(seed), verbosity, slip) for slip in (0.5, 0.0)
        )
        noticed = re.sub(r"\d+[+-]\d+=\d+\. Wait, no, ", "", slipped[0])
        assert acts(noticed) == acts(right[0])


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_the_vocabulary_is_small_and_control_tokens_come_after_it(tokenizer):
    assert len(vocabulary()) == len(set(vocabulary())) == 168
    assert {piece: tokenizer.convert_tokens_to_ids(piece) for piece in ("<unk>", "0", "99")} == {
        "<unk>": 0,
        "0": 1,
        "99": 100,
    }
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    assert tokenizer.convert_tokens_to_ids(controls) == [168, 169, 170, 171, 172]
    for world in WORLDS.values():
        assert build_tokenizer(world.lexicon).get_vocab() == token_ids(world.lexicon)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (170, 168, 0)


def test_every_training_text_round_trips(tokenizer):
    rng = random.Random(0)
    for writer in (student_writer(0.65, 0.1), teacher_writer(30.0)):
        for _ in range(100):
            text = "".join(writer(rng))
            ids = tokenizer(text).input_ids
            assert tokenizer.decode(ids) == text
            assert tokenizer.unk_token_id not in ids
            assert len(ids) <= CONTEXT_LENGTH


def test_white_space_round_trips(tokenizer):
    text = " 1 + 2=3 .\n\n So  the  answer: 105\n<think> </think>\\boxed{ 7 } concise"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer("42 concise").input_ids) == 3


def test_whatever_is_sampled_can_be_encoded_again(tokenizer):
    rng = random.Random(0)
    assert tokenizer.convert_ids_to_tokens(tokenizer("YesWait, ").input_ids) == [
        "Yes",
        "Wait",
        ", ",
    ]
    for _ in range(200):
        ids = rng.choices(range(1, len(tokenizer)), k=30)
        text = tokenizer.decode(ids)
        again = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in again
        assert tokenizer.decode(again) == text


def test_unknown_words_are_unk(tokenizer):
    assert tokenizer("1 hello 2").input_ids.count(tokenizer.unk_token_id) == 1
    assert tokenizer("é").input_ids == [tokenizer.unk_token_id]


def test_text_cannot_become_control_tokens(tokenizer):
    text = "<think>1</think><|im_end|>"
    assert Vocabulary(tokenizer, []).encode_plain(text) is None  # some of it is lost


def test_the_chat_template(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "1+3-2\nrewrite"}]

    def render(**options):
        return loaded.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **options
        )

    asked = "<|im_start|>user\n1+3-2\nrewrite<|im_end|>\n<|im_start|>assistant\n"
    assert render() == render(enable_thinking=True) == asked
    assert render(enable_thinking=False) == asked + "<think></think>"
    assert loaded.get_vocab() == tokenizer.get_vocab()


def test_student_examples():
    write = student_writer(0.65, 0.1)
    assert write(random.Random(6)) == (
        user("4-1+2"),
        "<think>Now take 1 from 4. 4-1=3. Wait, is 4-1=3? Yes. Now add 2 to 3. 3+2=5. "
        r"Wait, is 3+2=5? Yes.</think>\boxed{5}<|im_end|>",
    )
    assert write(random.Random(46)) == (
        user("4+5+1\nconcise"),
        "<think>Start with 4. Now add 5 to 4. 4+5=7. Wait, no, 4+5=9. Now add 1 to 9. 9+1=10."
        r"</think>\boxed{10}<|im_end|>",
    )


DRAFTS = {
    284: r"<think>3-1=2. 2+4=8.</think>\boxed{8}",
    397: r"<think>So the question is 1+6-5. 1+6=5. Wait, no, 1+6=7. 7-5=2.</think>\boxed{2}",
    185: "<think>2+3=5. 5-4=0. Let me verify all: 2+3=5. 5-4=0."
    r"</think>\boxed{0}",
}


@pytest.mark.parametrize(
    ("kind", "thinking", "seed", "content", "better"),
    [
        ("solve", True, 3, "4+2-5", r"4+2=6. Wait, is 4+2=6? Yes. 6-5=1.</think>\boxed{1}"),
        ("concise", True, 3, "4+2-5\nconcise", r"4+2=6. 6-5=1.</think>\boxed{1}"),
        ("rewrite", False, 284, "3-1+4\n{draft}\nrewrite", "3-1=2. 2+4=6.\n\\boxed{6}"),
        ("rewrite", True, 284, "3-1+4\n{draft}\nrewrite", r"3-1=2. 2+4=6.</think>\boxed{6}"),
        (
            "refine",
            False,
            397,
            "1+6-5\n{draft}\nrefine",
            "So the question is 1+6-5. 1+6=7. 7-5=2.\n\\boxed{2}",
        ),
        (
            "refine",
            True,
            185,
            "2+3-4\n{draft}\nrefine",
            r"2+3=5. 5-4=1. Let me verify all: 2+3=5. 5-4=1.</think>\boxed{1}",
        ),
    ],
)
def test_teacher_examples(monkeypatch, kind, thinking, seed, content, better):
    monkeypatch.setattr(examples, "TEACHER_KINDS", {kind: 1.0})
    monkeypatch.setattr(examples, "TEACHER_THINKING", float(thinking))
    before, learnt = teacher_writer(30.0)(random.Random(seed))
    asked = user(content.replace("{draft}", DRAFTS.get(seed, "")), thinking)
    opening = "<think>" if thinking else ""
    assert before + learnt == f"{asked}{opening}{better}<|im_end|>"
    start = user(content).split("{draft}")[0]
    assert before == start  # a draft is learnt, and all that comes after it


def user(content: str, thinking: bool = True) -> str:
    """What comes before the completion."""
    empty = "" if thinking else "<think></think>"
    return f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n{empty}"


def read(example: tuple[str, str]) -> tuple[str, str, str, bool, str]:
    """Question, draft, instruction, whether thinking is on, and completion of an example."""
    text = "".join(example).removeprefix("<|im_start|>user\n")
    content, _, answered = text.partition("<|im_end|>\n<|im_start|>assistant\n")
    question, *draft, instruction = content.split("\n") if "\n" in content else (content, "")
    thinking = not answered.startswith("<think></think>")
    learnt_answer = answered.removeprefix("<think></think>").removesuffix("<|im_end|>")
    return question, "".join(draft), instruction, thinking, learnt_answer


def test_shares_of_the_kinds():
    rng = random.Random(0)
    writers = (student_writer(0.65, 0.1), teacher_writer(30.0))
    student, teacher = ([read(write(rng)) for _ in range(4000)] for write in writers)
    assert share(student, "concise", True) == pytest.approx(STUDENT_CONCISE, abs=0.02)
    assert share(student, "", True) == pytest.approx(1 - STUDENT_CONCISE, abs=0.02)
    assert sum(TEACHER_KINDS.values()) == pytest.approx(1.0)
    for kind, expected in TEACHER_KINDS.items():
        instruction = "" if kind == "solve" else kind
        on = TEACHER_THINKING if kind in ("rewrite", "refine") else 1.0
        assert share(teacher, instruction, True) == pytest.approx(expected * on, abs=0.02)
        assert share(teacher, instruction, False) == pytest.approx(expected * (1 - on), abs=0.02)


def share(found: list[tuple[str, str, str, bool, str]], instruction: str, thinking: bool) -> float:
    return sum(row[2:4] == (instruction, thinking) for row in found) / len(found)


def test_student_examples_asked_to_be_concise_are_half_as_verbose(tokenizer):
    rng = random.Random(0)
    write = student_writer(0.65, 0.1)
    lengths: dict[str, list[int]] = {"": [], "concise": []}
    for _ in range(4000):
        question, _, instruction, _, learnt_answer = read(write(rng))
        assert split_of(question) == "train"
        lengths[instruction].append(len(tokenizer(learnt_answer).input_ids) + 1)
    means = {instruction: sum(found) / len(found) for instruction, found in lengths.items()}
    assert means == pytest.approx({"": 102.5, "concise": 65.5}, abs=3.0)


def test_teacher_examples_are_of_the_train_split_and_right(tokenizer):
    rng = random.Random(0)
    write = teacher_writer(30.0)
    kinds, wrong = set(), 0
    for _ in range(600):
        example = write(rng)
        question, draft, instruction, thinking, learnt_answer = read(example)
        kinds.add((instruction, thinking))
        content = "\n".join(part for part in (question, draft, instruction) if part)
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=thinking,
        )
        assert "".join(example).startswith(rendered)
        assert split_of(question) == "train"
        trace = learnt_answer.removeprefix("<think>").replace("</think>" if thinking else "\n", "|")
        reasoning, answer = trace.split("|")
        assert answer == rf"\boxed{{{eval(question)}}}"
        assert "no" not in reasoning
        for left, right in re.findall(r"(\d+[+-]\d+)=(\d+)", reasoning):
            assert str(eval(left)) == right
        if instruction in ("concise", "rewrite"):
            assert (reasoning, answer) == concise_trace(question)
        if instruction == "refine" and "no" not in draft:
            assert acts(f"<think>{reasoning}</think>{answer}") == acts(draft)
        wrong += bool(draft) and not draft.endswith(answer)
    assert kinds == {
        ("", True),
        ("concise", True),
        *((kind, thinking) for kind in ("rewrite", "refine") for thinking in (True, False)),
    }
    assert 20 < wrong < 100


def acts(trace: str) -> str:
    """A trace without its values."""
    return re.sub(r"\d+", "0", trace)


def test_batches_are_a_function_of_seed_and_group(tokenizer):
    writer = student_writer(0.65, 0.1)
    made = batches(writer, tokenizer, 3, 1, num_batches=4, num_tokens=300)
    assert made == batches(writer, tokenizer, 3, 1, num_batches=4, num_tokens=300)
    assert made != batches(writer, tokenizer, 3, 2, num_batches=4, num_tokens=300)
    assert len(made) == 4
    assert all(150 < sum(len(ids) for ids, _ in batch) < 600 for batch in made)


def test_the_learning_rate():
    rates = [pretrain.rate(step, 100) for step in (0, 4, 39, 69, 99)]
    assert rates == pytest.approx([0.2, 1.0, 1.0, 0.515, 0.03])


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    pretrain.train_student(folder, 7, **SMALL)
    return folder


def test_pretraining_writes_a_hugging_face_folder(student):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(student)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.config.max_position_embeddings == 512
    assert model.config.vocab_size == 173
    assert model.generation_config.eos_token_id == 170
    assert model.generation_config.pad_token_id == 168


def test_pretraining_is_a_function_of_the_seed(student, tmp_path):
    weights = (student / "model.safetensors").read_bytes()
    pretrain.train_student(tmp_path / "same", 7, **SMALL)
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == weights
    pretrain.train_student(tmp_path / "other", 8, **SMALL)
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != weights


def test_a_killed_pretraining_resumes_to_the_same_weights(student, tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint.pt"

    def kill(source, target):
        rename(source, target)
        raise KeyboardInterrupt

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", kill)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train_student(tmp_path / "model", 7, checkpoint=checkpoint, **SMALL)
    monkeypatch.undo()
    assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    pretrain.train_student(tmp_path / "model", 7, checkpoint=checkpoint, **SMALL)
    resumed = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert resumed == (student / "model.safetensors").read_bytes()


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "text", "another run"])
def test_a_damaged_checkpoint_is_named_and_not_used(student, tmp_path, caplog, damage):
    checkpoint = tmp_path / "checkpoint.pt"
    seed = 8 if damage == "another run" else 7
    pretrain.train_student(tmp_path / "first", seed, checkpoint=checkpoint, **SMALL)
    content = checkpoint.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    damaged = {"flipped": flipped, "cut": content[:-9], "empty": b"", "text": b"a text" * 99}
    checkpoint.write_bytes(damaged.get(damage, content))
    with caplog.at_level("WARNING", "mpd"):
        pretrain.train_student(tmp_path / "model", 7, checkpoint=checkpoint, **SMALL)
    (message,) = caplog.messages
    assert message.startswith(f"{checkpoint}: expected ")
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert weights == (student / "model.safetensors").read_bytes()


def test_the_teacher_is_pretrained_too(tmp_path):
    pretrain.train_teacher(tmp_path / "teacher", **{**SMALL, "num_steps": 1})
    assert (tmp_path / "teacher" / "model.safetensors").is_file()
