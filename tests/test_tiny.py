"""The embedded world: task, tokenizer and pretraining."""

import random
from pathlib import Path

import pytest

from mpd.tiny import pretrain
from mpd.tiny.examples import batches, student_writer, teacher_writer
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
from mpd.tiny.tokenizer import build_tokenizer, vocabulary

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


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_the_vocabulary_is_small_and_control_tokens_are_behind_it(tokenizer):
    assert len(vocabulary()) == len(set(vocabulary())) == 168
    assert {piece: tokenizer.convert_tokens_to_ids(piece) for piece in ("<unk>", "0", "99")} == {
        "<unk>": 0,
        "0": 1,
        "99": 100,
    }
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    assert tokenizer.convert_tokens_to_ids(controls) == [168, 169, 170, 171, 172]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (170, 168, 0)


def test_every_training_text_round_trips(tokenizer):
    rng = random.Random(0)
    for writer in (student_writer(0.65, 0.1), teacher_writer(30.0)):
        for _ in range(100):
            text = "".join(writer(rng))
            ids = tokenizer(text).input_ids
            assert tokenizer.decode(ids) == text
            assert tokenizer.unk_token_id not in ids
            assert len(ids) <= pretrain.CONTEXT_LENGTH


def test_white_space_round_trips(tokenizer):
    text = " 1 + 2=3 .\n\n So  the  answer: 105\n<think> </think>\\boxed{ 7 } concise"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer("42 concise").input_ids) == 3


def test_whatever_is_sampled_can_be_said_again(tokenizer):
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


def test_text_cannot_say_control_tokens(tokenizer):
    from mpd.chat import _without_added_tokens

    ids = _without_added_tokens(tokenizer).encode("<think>1</think><|im_end|>").ids
    assert max(ids) < len(vocabulary())


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


def test_examples_are_what_the_template_renders(tokenizer):
    rng = random.Random(0)
    kinds = set()
    for _ in range(50):
        before, learnt = teacher_writer(30.0)(rng)
        content = (before + learnt).split("user\n")[1].split("<|im_end|>")[0]
        rewriting = content.endswith("\nrewrite")
        kinds.add(rewriting)
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=not rewriting,
        )
        assert (before + learnt).startswith(rendered)
        question = content.split("\n")[0]
        assert learnt.endswith(rf"\boxed{{{eval(question)}}}<|im_end|>")
        if rewriting:
            assert learnt.endswith("\n".join(concise_trace(question)) + "<|im_end|>")
    assert kinds == {True, False}


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
        replace(source, target)
        raise KeyboardInterrupt

    replace = Path.replace
    monkeypatch.setattr(Path, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train_student(tmp_path / "model", 7, checkpoint=checkpoint, **SMALL)
    monkeypatch.undo()
    assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    pretrain.train_student(tmp_path / "model", 7, checkpoint=checkpoint, **SMALL)
    resumed = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert resumed == (student / "model.safetensors").read_bytes()


def test_the_teacher_is_pretrained_too(tmp_path):
    pretrain.train_teacher(tmp_path / "teacher", **{**SMALL, "num_steps": 1})
    assert (tmp_path / "teacher" / "model.safetensors").is_file()
