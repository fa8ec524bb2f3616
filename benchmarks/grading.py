"""Speed of the answer checker: extraction, integers in this process, LaTeX in worker processes.

    python benchmarks/grading.py --json

All pairs of gold and answer differ, since equal ones would be checked only once. Extraction and
integers are measured in seconds of one core, LaTeX in seconds of the clock, after the workers have
started.
"""

import argparse
import json
import time
from collections import Counter

from mpd.text.grading.extraction import extract
from mpd.text.grading.grader import Grader

THOUGHT = "So 3 + 4 = 7, wait, let me check that once more: 7 - 4 = 3. " * 100
FORMATS = ("{}", "{:,}", "${}$", r"\$ {}", "{}.00", r"{}\%", "00{}", r"\({}\)")
# Gold and answer of two numbers; the first of each pair is right, the second wrong.
LATEX = (
    (r"\frac{{{0}}}{{{1}}}", "{0}/{1}", "{1}/{0}"),
    (r"{0}\sqrt{{{1}}}", r"\sqrt{{{1}}} \cdot {0}", r"{0} + \sqrt{{{1}}}"),
    (r"[{0}, {1})", r"\left[ {0}, {1} \right)", "({0}, {1})"),
    ("({0}x + 1)(x + {1})", "{0}x^2 + ({0} \\cdot {1} + 1)x + {1}", "{0}x^2 + {1}"),
    (r"{0} + {1}i", r"{1}i + {0}", r"{0} - {1}i"),
)


def integers(count: int) -> tuple[list[str], list[str]]:
    """Gold integers and answers in the formats that people meet, every other one wrong."""
    answers = [FORMATS[n // 2 % len(FORMATS)].format(n + n % 2) for n in range(count)]
    return [str(n) for n in range(count)], answers


def latex(count: int) -> tuple[list[str], list[str]]:
    """Gold answers that are no integers, and other ways to write them, every other one wrong."""
    rows = [(*LATEX[n // 2 % len(LATEX)], n + 2, n + 5) for n in range(count)]
    golds = [gold.format(a, b) for gold, _, _, a, b in rows]
    answers = [(wrong if n % 2 else right).format(a, b)
               for n, (_, right, wrong, a, b) in enumerate(rows)]  # fmt: skip
    return golds, answers


def require_halves(verdicts: list[str]) -> None:
    """Every other answer is right."""
    expected = {"correct": (len(verdicts) + 1) // 2, "wrong": len(verdicts) // 2}
    found = Counter(verdicts)
    if found != expected:
        raise ValueError(f"expected {expected}, found {dict(found)}: the checker errs")


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Answers per second."""
    texts = [f"<think>{THOUGHT}</think>It is \\boxed{{{n}}}." for n in range(10_000)]
    began = time.process_time()
    found = [extract(text, "</think>") for text in texts]
    extracted = len(texts) / (time.process_time() - began)
    if found != [str(n) for n in range(10_000)]:
        raise ValueError("answers were not extracted as they stand")

    golds, answers = integers(arguments.num_integers)
    with Grader() as grader:
        began = time.process_time()
        verdicts = grader.grade(golds, answers)
        graded = len(golds) / (time.process_time() - began)
    require_halves(verdicts)

    golds, answers = latex(arguments.num_latex)
    with Grader(num_workers=arguments.workers) as grader:
        grader.grade([f"x + {n}" for n in range(50)], [f"{n} + x" for n in range(50)])
        began = time.perf_counter()
        verdicts = grader.grade(golds, answers)
        checked = len(golds) / (time.perf_counter() - began)
    require_halves(verdicts)
    return {"extracted": extracted, "integers": graded, "latex": checked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--num-integers", type=int, default=1_000_000)
    parser.add_argument("--num-latex", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=2, help="processes that check LaTeX")
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    arguments = parser.parse_args()
    found = measure(arguments)
    units = {"extracted": "core second", "integers": "core second", "latex": "second"}
    for name, rate in found.items():
        print(f"{name:10} {rate:12,.0f} answers per {units[name]}")
    if arguments.json:
        print(json.dumps({name: round(rate, 1) for name, rate in found.items()}))


if __name__ == "__main__":
    main()
