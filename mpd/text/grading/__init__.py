r"""Final answers: extract them from completions, and compare them with gold answers.

    extraction.extract("<think>2+2=4</think>It is \boxed{4}.", "</think>")  ->  "4"
    extraction.gold("2+2 is 4.\n#### 4", "auto")                            ->  "4"
    with grader.Grader() as answer_grader:
        answer_grader.grade(["4", r"\frac12"], ["4.0", "1/3"])              ->  ["correct", "wrong"]

Exact rules compare integers, fractions, times and choices in the calling process. math-verify
decides the rest in worker processes that can be killed: its own time limit is an alarm, which
cannot interrupt a long computation with big integers, and reports a wrong answer when it goes off.
"""
