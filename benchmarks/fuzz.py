"""Rubbish for readers, chat code, answer checker, page and terminal: what crashes, what is slow.

    python benchmarks/fuzz.py --cases 100000 --json

Each case is a text of random pieces: letters and numbers, LaTeX, marks of Markdown, control strings
of chat formats, control characters, marks of direction, lone surrogates, brackets and long runs of
one piece. A case is refused where the code says so with a ValueError or None, and a crash is any
other exception, or a result that breaks the promise of its target. Times are processor seconds.
"""

import argparse
import json
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from rich.console import Console
from rich.table import Table

PIECES = [
    *(" ", "\n", "\t", "\r\n", "a", "x", "1", "23", "1,000", "0.5", "the answer is ", "Answer: "),
    *("<answer>", "</answer>", "#### ", "\\boxed{", "\\boxed", "}", "{", "(", ")", "[", "]", "$"),
    *(
        "\\frac",
        "\\frac{1}{2}",
        "\\sqrt",
        "^",
        "_",
        "\\text{",
        "\\left(",
        "\\right)",
        "|",
        "½",
        "√",
    ),
    *("**", "`", "```\n", "~~~", "# ", "- ", "| a |\n", "=", "+", "/", "%", "5 cm", "٣", "⁹", "é"),
    *("<think>", "</think>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "user\n", "{problem}"),
    *("\0", "\x1b[2J", "\x1b]0;t\x07", "\x9b", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028"),
    *("\x85", "\ud800", "\udfff", "\U0001f600", "e\u0301", "<b>", "</script>", "&amp;", '"', "'"),
    *(
        '{"problem": "a", "answer": "1"}\n',
        "problem,answer\n",
        "a,1\n",
        "\\u0000",
        "\\ud800",
        "null",
    ),
    *("NaN", "1e999", "9" * 40, "{{", "{%", "<!--"),
]
FORMULAS = [
    *(
        "1",
        "2",
        "9",
        "99",
        "x",
        "y",
        "i",
        "n",
        "+",
        "-",
        "*",
        "/",
        "^",
        "_",
        "!",
        "=",
        "<",
        ",",
        "(",
        ")",
    ),
    *(
        "^{",
        "{",
        "}",
        "}",
        "}",
        "\\frac{1}{",
        "\\frac{",
        "}{",
        "\\sqrt{",
        "\\sin(",
        "\\log(",
        "\\pi",
        "e^",
    ),
    *(
        "\\infty",
        "\\cup",
        "\\{",
        "\\}",
        "[",
        "]",
        "|",
        "\\int_0^1 ",
        "\\sum_{k=1}^{9} ",
        "\\binom{9}{",
    ),
    *(
        "10^{9}",
        "^{99}",
        "1.5",
        "\\le ",
        "\\cdot ",
        "\\pm ",
        "dx",
        "\\begin{pmatrix}",
        "\\\\",
        "&",
        " ",
    ),
]
VERDICTS = {"correct", "wrong", "none", "unparsed", None}
Target = Callable[[str], bool]  # whether a text was taken; ValueError or False where it was refused


def text_of(source: random.Random) -> str:
    """A random text: up to 40 pieces, some of which are repeated up to 2,000 times."""
    pieces = []
    for _ in range(source.randint(0, 40)):
        piece = source.choice(PIECES) if source.random() < 0.9 else chr(source.randrange(0x110000))
        pieces.append(piece * (source.randint(2, 2_000) if source.random() < 0.005 else 1))
    return "".join(pieces)


def readable(text: str) -> str:
    """The text without lone surrogates, as it comes out of every reader."""
    return text.encode("utf-8", "replace").decode()


def grading_targets() -> dict[str, Target]:
    """Extraction of answers, gold answers, exact rules, and the split of a rewrite."""
    from mpd.text.grading.equivalence import verdict_by_text
    from mpd.text.grading.extraction import MAX_CHARACTERS, extract, gold
    from mpd.text.splitting import split_at_answer
    from mpd.text.thinking import without_thinking

    def extraction(text: str) -> bool:
        answers = [extract(text, None), extract(text, "</think>")]
        assert all(answer is None or len(answer) <= MAX_CHARACTERS for answer in answers)
        return any(answers)

    def golds(text: str) -> bool:
        return 0 < len(gold(text, "auto")) <= MAX_CHARACTERS

    def verdicts(text: str) -> bool:
        verdict = verdict_by_text(text[: len(text) // 2], text[len(text) // 2 :])
        assert verdict in VERDICTS
        return verdict != "unparsed"

    def splitting(text: str) -> bool:
        parts = split_at_answer(text)
        assert parts is None or all(parts)
        return parts is not None

    def thinking(text: str) -> bool:
        return without_thinking(text, "", ("<think>", "</think>"), True) is not None

    return {"extract": extraction, "gold": golds, "exact rules": verdicts, "split": splitting,
            "thinking": thinking}  # fmt: skip


def reading_targets(folder: Path) -> dict[str, Target]:
    """Readers of files with rows, whose bytes are the text, and what is done with questions."""
    from mpd.text.questions import problem_id
    from mpd.text.row_streams import read_rows
    from mpd.text.rows import BadRow

    starts: dict[str, Callable[[str], str]] = {
        "jsonl": lambda text: json.dumps({"problem": text, "answer": "1"}) + "\n",
        "json": lambda text: '[{"problem": "a", "answer": ' + json.dumps(text),
        "csv": lambda _: "problem,answer\n",
    }

    def reader(suffix: str) -> Target:
        path = folder / f"rows.{suffix}"

        def read(text: str) -> bool:
            before = starts[suffix](text) if len(text) % 2 else ""
            path.write_bytes((before + text).encode("utf-8", "surrogatepass"))
            _, rows = read_rows(path, ("problem", "answer"))
            return any(not isinstance(row, BadRow) for row in rows)

        return read

    def identity(text: str) -> bool:
        return len(problem_id(readable(text))) == 16

    return {suffix: reader(suffix) for suffix in ("jsonl", "json", "csv")} | {"question": identity}


def chat_targets() -> dict[str, Target]:
    """Prompts, completions and plain text with a byte-level tokenizer that has think tags."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from mpd.config.chat import Chat
    from mpd.text.completions import CompletionWriter
    from mpd.text.prompts import Prompts
    from mpd.text.vocabulary import Vocabulary

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({sign: number for number, sign in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tags = ("<think>", "</think>")
    backend.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n"
    )
    vocabulary = Vocabulary(tokenizer, [tokenizer.eos_token_id])
    chat = Chat(open="<think>\n", close="\n</think>\n\n")
    prompts, writer = Prompts.plain(vocabulary, chat), CompletionWriter(vocabulary, chat)
    controls = set(vocabulary.control_ids.values())
    around = [token for token in prompts.problem_ids("a") if token in controls]
    prompt = prompts.problem_ids("a")

    def asked(text: str) -> bool:
        ids = prompts.problem_ids(readable(text))
        assert [token for token in ids if token in controls] == around
        return True

    def written(text: str) -> bool:
        ids = writer.build(readable(text) + "\n\nThe answer is \\boxed{4}.", prompt)
        assert ids is None or [token for token in ids if token in controls] == [
            *vocabulary.encode("<think></think>"), tokenizer.eos_token_id
        ]  # fmt: skip
        return ids is not None

    def plain(text: str) -> bool:
        ids = vocabulary.encode_plain(readable(text))
        assert ids is None or (not controls & {*ids} and vocabulary.decode(ids) == readable(text))
        return ids is not None

    return {"prompt": asked, "completion": written, "plain text": plain}


class Tags(HTMLParser):
    """The names of all tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag and the names of its attributes."""
        self.names += [tag, *(name for name, _ in attrs)]


def showing_targets() -> dict[str, Target]:
    """The page, whose tags no text changes, and messages, which no terminal obeys."""
    from mpd.report.page.cells import grid
    from mpd.report.page.markup import environment, rendered
    from mpd.store.signs import MAX_LINE, SIGNS, harmless

    macros = environment().get_template("macros.html").module

    def page_of(text: str) -> str:
        cells = grid([text, "b"], [[text, text]])
        return rendered("settings.html", stages={text: {text: text}}) + str(macros.grid(cells))

    expected = Tags(page_of("a")).names

    def page(text: str) -> bool:
        assert Tags(page_of(readable(text))).names == expected
        return True

    def message(text: str) -> bool:
        shown = harmless(text)
        assert not set(shown) & (set(SIGNS) - set(" \t\n"))
        assert max(map(len, shown.split("\n"))) < MAX_LINE + 100
        return True

    return {"page": page, "message": message}


def targets(folder: Path) -> dict[str, Target]:
    """All targets by name; `folder` is for files."""
    return grading_targets() | reading_targets(folder) | chat_targets() | showing_targets()


def grade(num_answers: int, seed: int, workers: int) -> dict[str, float]:
    """Verdicts on random answers of LaTeX, and the seconds of the clock that they took."""
    from mpd.text.grading.grader import Grader

    source = random.Random(f"grade {seed}")
    answers = [
        "".join(source.choice(FORMULAS) for _ in range(source.randint(3, 25)))
        for _ in range(num_answers)
    ]
    golds = [source.choice(("x+1", r"\frac{1}{2}", r"\{1,2\}", r"(0,\infty)")) for _ in answers]
    with Grader(num_workers=workers) as grader:
        began = time.perf_counter()
        verdicts = Counter(grader.grade(golds, answers))
    return {**verdicts, "seconds": round(time.perf_counter() - began, 1)}


def outcome(target: Target, text: str) -> bool:
    """Whether a text was taken. Any exception but a ValueError is a crash, and raised."""
    try:
        return target(text)
    except UnicodeError:  # a ValueError, but none that says what is wrong with the row
        raise
    except ValueError:
        return False


def measure(name: str, target: Target, cases: int, seed: int) -> dict[str, float | str]:
    """Figures of one target."""
    source = random.Random(f"{name} {seed}")
    refused = crashes = 0
    total = worst = 0.0
    for _ in range(cases):
        text = text_of(source)
        began = time.process_time()
        try:
            refused += not outcome(target, text)
        except Exception:
            crashes += 1
            if crashes == 1:
                print(f"{name} {text[:500]!r}")
                traceback.print_exc()
        seconds = time.process_time() - began
        total, worst = total + seconds, max(worst, seconds)
    return {"target": name, "cases": cases, "refused": refused, "crashes": crashes,
            "seconds": round(total, 1), "worst seconds": round(worst, 3)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cases", type=int, default=100_000, help="cases of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="*", help="names of targets; all by default")
    parser.add_argument("--graded", type=int, default=0, help="answers that workers check")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    arguments = parser.parse_args()
    if arguments.graded:
        print("graded", grade(arguments.graded, arguments.seed, arguments.workers))
        return
    table, rows = Table(), []
    with tempfile.TemporaryDirectory() as folder:
        for name, target in targets(Path(folder)).items():
            if not arguments.targets or name in arguments.targets:
                rows.append(measure(name, target, arguments.cases, arguments.seed))
                print(rows[-1], flush=True)
    for title in rows[0]:
        table.add_column(title, justify="left" if title == "target" else "right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=100).print(table)
    if arguments.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
