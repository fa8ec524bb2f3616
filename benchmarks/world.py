r"""What the hard world is like, before any method is tuned: measures of its two base models.

    python benchmarks/world.py results/hard/models/student_seed_0 results/hard/models/teacher

Accuracy and tokens are of held-out problems, sampled at temperature 0.7 unless a line says
otherwise; log-probabilities are means per token, in nats, under the plain prompt. "Forced" is the
student without anything but the first result of each step: the problem's own steps are written for
it, and it samples the results. Rewrites are the teacher's of the student's samples, as in the
workflow, and only right completions are scored.
"""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from mpd.config.generation import Decoding
from mpd.config.resources import GenerationResources
from mpd.engines.base import Completion, Request, seed_of
from mpd.engines.transformers import TransformersEngine
from mpd.store.model_folder import write_manifest
from mpd.tiny.examples import completion, prompt
from mpd.tiny.stories import Story, apply, draw_many, is_hard

STEP = re.compile(r"(Check: [^.]*\. No, )?(\d+)([+*-])(\d+)=(\d+)\.")


class Writer:
    """A model that completes prompts and scores completions."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        if not (folder / "manifest.json").is_file():
            write_manifest(folder)
        resources = GenerationResources(batch_size=batch_size)
        self.engine = TransformersEngine(folder / "manifest.json", "float32", resources)
        self.tokenizer = self.engine.vocabulary.tokenizer

    def ids(self, text: str) -> list[int]:
        """The token ids of a text, its control tokens among them."""
        return self.tokenizer(text).input_ids

    def complete(
        self, prompts: Sequence[str], temperature: float = 0.7, max_new_tokens: int = 400
    ) -> list[Completion]:
        """One completion of each prompt."""
        decoding = Decoding(temperature=temperature, max_new_tokens=max_new_tokens)
        requests = [
            Request(self.ids(text), seed_of("world", number, text))
            for number, text in enumerate(prompts)
        ]
        return self.engine.generate(requests, decoding)

    def text(self, done: Completion) -> str:
        """The text of a completion, without its stop token."""
        return str(self.tokenizer.decode(done.token_ids)).removesuffix("<|im_end|>")

    @torch.inference_mode()
    def logprob(self, pairs: Iterable[tuple[str, str]]) -> float:
        """Mean log-probability per token of completions, in nats; pairs are prompt, completion."""
        total, count = 0.0, 0
        for before, after in pairs:
            first, ids = len(self.ids(before)), torch.tensor([self.ids(before + after)])
            logprobs = self.engine.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            total += logprobs.gather(1, ids[0, 1:, None])[first - 1 :].sum().item()
            count += ids.shape[1] - first
        return total / count if count else float("nan")


def is_right(story: Story, text: str) -> bool:
    """Whether a completion ends with the right answer."""
    return text.endswith(rf"\boxed{{{story.values[-1]}}}")


def forced(student: Writer, stories: Sequence[Story]) -> float:
    """Accuracy where the student samples nothing but the first result of each step."""
    texts = [prompt(story.question) + "<think>" for story in stories]
    values = [story.first for story in stories]
    for step in range(max(len(story.operations) for story in stories)):
        running = [n for n, story in enumerate(stories) if step < len(story.operations)]
        for number in running:
            sign, operand = stories[number].operations[step]
            texts[number] += f"{' ' * (step > 0)}{values[number]}{sign}{operand}="
        results = student.complete([texts[number] for number in running], max_new_tokens=3)
        for number, done in zip(running, results, strict=True):
            match = re.match(r"\d+", student.text(done))
            values[number] = int(match.group()) if match else 0
            texts[number] += f"{values[number]}."
    return sum(
        value == story.values[-1] for value, story in zip(values, stories, strict=True)
    ) / len(stories)


def step_measures(texts: Iterable[str]) -> dict[str, float]:
    """Shares of first results that are right, and of wrong checked ones that are corrected.

    A first result is corrected where the solution goes on from the right one.
    """
    first: dict[bool, list[bool]] = {True: [], False: []}
    corrected, checked = [], []
    for text in texts:
        steps = text.split("Let me verify all")[0]
        found = [match for match in STEP.finditer(steps) if not match[1]]  # without corrections
        for place, match in enumerate(found):
            value, operation, result = int(match[2]), (match[3], int(match[4])), int(match[5])
            right = apply(value, operation)
            first[is_hard(value, operation)].append(result == right)
            following = found[place + 1] if place + 1 < len(found) else None
            if result != right and following is not None:
                is_checked = "Check" in steps[match.end() : following.start()]
                checked.append(is_checked)
                if is_checked:
                    corrected.append(int(following[2]) == right)
    return {
        "first result right, with carry": _mean(first[True]),
        "first result right, without": _mean(first[False]),
        "wrong first results that are checked": _mean(checked),
        "wrong first results that are checked and corrected": _mean(corrected),
    }


def measure(student: Writer, teacher: Writer, num: int) -> dict[str, Any]:
    """All measures, by name."""
    stories = draw_many("test", num, seed=1)
    plain = [prompt(story.question) for story in stories]
    concise = [prompt(f"{story.question}\nconcise") for story in stories]
    translated = [prompt(story.translation) for story in stories]
    measures: dict[str, Any] = {}
    texts: dict[str, list[str]] = {}

    def add(name: str, model: Writer, prompts: list[str], **decoding: Any) -> list[str]:
        done = model.complete(prompts, **decoding)
        texts[name] = [model.text(one) for one in done]
        right = [is_right(story, text) for story, text in zip(stories, texts[name], strict=True)]
        measures[f"{name}: accuracy"] = _mean(right)
        measures[f"{name}: tokens"] = _mean([len(one.token_ids) for one in done])
        return texts[name]

    samples = add("student", student, plain)
    measures |= step_measures(samples)
    measures["student, forced to the shortest form: accuracy"] = forced(student, stories)
    add("student, greedy", student, plain, temperature=0)
    add("student, asked to be concise", student, concise)
    add("student, second language", student, translated)
    add("teacher", teacher, plain)
    measures["teacher, in its own notation"] = _mean([";" in text for text in texts["teacher"]])
    add("teacher, greedy", teacher, plain, temperature=0)
    add("teacher, asked to be concise", teacher, concise)
    drafts = [
        prompt(f"{story.question}\n{text}\nrewrite", thinking=False)
        for story, text in zip(stories, samples, strict=True)
    ]
    add("rewrite", teacher, drafts, temperature=0.6, max_new_tokens=200)
    texts["rewrite"] = [
        completion(*text.rsplit("\n", 1)) if "\n" in text else text for text in texts["rewrite"]
    ]
    for name in ("student", "rewrite", "teacher", "teacher, asked to be concise"):
        pairs = [
            (before, f"{text}<|im_end|>")
            for story, before, text in zip(stories, plain, texts[name], strict=True)
            if is_right(story, text)
        ]
        measures[f"{name}: log-probability by the student"] = student.logprob(pairs)
        measures[f"{name}: log-probability by the teacher"] = teacher.logprob(pairs)
    measures["examples"] = {name: found[:2] for name, found in texts.items()}
    return measures


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def main() -> None:
    """Print the measures of two models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("student", type=Path, help="folder of the base student")
    parser.add_argument("teacher", type=Path, help="folder of the teacher")
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument(
        "--json", action="store_true", help="all measures, and two examples of each"
    )
    arguments = parser.parse_args()
    student = Writer(arguments.student, arguments.batch_size)
    teacher = Writer(arguments.teacher, arguments.batch_size)
    measures = measure(student, teacher, arguments.problems)
    examples = measures.pop("examples")
    if arguments.json:
        print(json.dumps({**measures, "examples": examples}, indent=1))
        return
    for name, value in measures.items():
        print(f"{value:8.3f}  {name}")


if __name__ == "__main__":
    main()
