"""The tables of the report."""

from mpd.store.schema.column import (
    BENCHMARK,
    METHOD,
    METHOD_OR_BASE,
    ROUND,
    Artifact,
    Column,
)


def _quantiles(what: str, nullable: bool = False) -> list[Column]:
    names = {"p10": "10 % quantile", "median": "median", "p90": "90 % quantile", "max": "longest"}
    return [
        Column(f"tokens_{name}", "float64", "token", f"{words} {what}", nullable)
        for name, words in names.items()
    ]


SUMMARY = Artifact(
    "summary",
    4,
    "one row per method, round, seed and benchmark; base is the untrained student, round 0",
    ("method", "round", "seed", "benchmark"),
    (
        METHOD_OR_BASE,
        ROUND,
        Column("seed", "int32", "", "seed of the branch"),
        BENCHMARK,
        Column("num_problems", "int32", "", "problems of the benchmark"),
        Column("num_samples", "int32", "", "samples per problem"),
        Column(
            "accuracy",
            "float64",
            "",
            "avg@k, k = num_samples: mean over problems of the share of correct samples",
        ),
        Column("accuracy_se", "float64", "", "standard error over problems"),
        Column(
            "pass_at_k",
            "float64",
            "",
            "pass@k, k = num_samples: share of problems with a correct sample",
        ),
        Column("mean_tokens", "float64", "token", "mean completion tokens"),
        Column("mean_tokens_se", "float64", "token", "standard error over problems"),
        *_quantiles("of the tokens of all answers"),
        Column("thinking_tokens", "float64", "token", "of mean_tokens, up to the end of thinking"),
        Column("answer_tokens", "float64", "token", "of mean_tokens, after the end of thinking"),
        Column(
            "solved_tokens",
            "float64",
            "token",
            "mean tokens of the correct samples of a problem, mean over the problems solved. Each "
            "student solves other problems: comparison has those that both solve",
            nullable=True,
        ),
        Column(
            "tokens_per_correct",
            "float64",
            "token",
            "tokens of all samples over the number of correct ones",
            nullable=True,
        ),
        Column("truncation_rate", "float64", "", "share of samples cut by the token limit"),
        Column("no_answer_rate", "float64", "", "share of samples without a final answer"),
        Column(
            "timeout_rate",
            "float64",
            "",
            "share of samples on whose answers the checker gave up; they count as not correct",
        ),
        Column(
            "aes",
            "float64",
            "",
            "accuracy-efficiency score against the base student of the same seed, from accuracy A "
            "and mean_tokens L: a·ΔL + b·|ΔA| if ΔA ≥ 0, else a·ΔL - g·|ΔA|, with "
            "(a, b, g) = (1, 3, 5), ΔL = (L0 - L) / L0, ΔA = (A - A0) / A0; null for the base "
            "student and where A0 = 0",
            nullable=True,
        ),
    ),
)


def _with_interval(name: str, unit: str, description: str, nullable: bool = False) -> list[Column]:
    ends = (("low", "lower"), ("high", "upper"))
    return [
        Column(name, "float64", unit, description, nullable),
        *(
            Column(f"{name}_{end}", "float64", unit, f"{which} end of its 95 % interval", nullable)
            for end, which in ends
        ),
    ]


COMPARISON = Artifact(
    "comparison",
    4,
    "differences between students, paired by problem within a seed; intervals by bootstrap with "
    "seeds as the outer level, then problems, the same for all seeds",
    ("method", "round", "benchmark", "against"),
    (
        METHOD,
        ROUND,
        BENCHMARK,
        Column(
            "against",
            "string",
            "",
            "the student that is subtracted: base, the untrained one, or mpd after the same round "
            "(after its last round for a method that trains nothing)",
        ),
        Column("num_seeds", "int32", "", "seeds that both have"),
        Column("num_solved", "int32", "", "problems that both solve, summed over seeds"),
        *_with_interval("accuracy", "", "difference of the share of correct samples"),
        *_with_interval("tokens", "token", "difference of completion tokens", True),
        *_quantiles(
            "of the tokens of all answers on the seeds that both have, less that of the other "
            "student's; without an interval",
            True,
        ),
        *_with_interval(
            "longer",
            "",
            "share of problems, paired by seed, whose answers have more tokens in the mean than "
            "the other student's",
            True,
        ),
        *_with_interval(
            "solved_tokens",
            "token",
            "difference of the tokens of correct samples on the problems that both solve; null "
            "where there is none",
            True,
        ),
        *_with_interval(
            "aes",
            "",
            "accuracy-efficiency score, as in summary, of the means over all seeds; null unless "
            "against base, and where the base student solves nothing",
            True,
        ),
    ),
)

BUDGETS = Artifact(
    "budgets",
    2,
    "accuracy if every answer had been cut at so many tokens; prefixes of the same outputs, seeds "
    "pooled, intervals as in comparison",
    ("method", "round", "benchmark", "budget"),
    (
        METHOD_OR_BASE,
        ROUND,
        BENCHMARK,
        Column("budget", "int32", "token", "length that longer answers are cut to"),
        Column("num_seeds", "int32", "", "seeds that are pooled"),
        *_with_interval("accuracy", "", "avg@k of the answers, cut to the budget"),
    ),
)

DIFFICULTY = Artifact(
    "difficulty",
    2,
    "students by difficulty: problems in bins by the base student's solve rate over all seeds and "
    "samples; seeds pooled, intervals as in comparison. The base student's own answers make the "
    "bins, so its accuracy in them follows from the choice, and so do its tokens if wrong answers "
    "are longer than right ones; a student that is no better than base comes out nearer to the "
    "mean. Compare the other students with each other, not with base",
    ("method", "round", "benchmark", "bin"),
    (
        METHOD_OR_BASE,
        ROUND,
        BENCHMARK,
        Column("bin", "string", "", "never, up to half, more than half or always solved by base"),
        Column("num_seeds", "int32", "", "seeds that are pooled"),
        Column("num_problems", "int32", "", "problems of the bin; an empty bin has no row"),
        *_with_interval("accuracy", "", "avg@k on them"),
        *_with_interval("tokens", "token", "mean completion tokens on them", True),
        *_with_interval(
            "saved_tokens",
            "token",
            "mean of the base student's tokens minus the student's own, on the same problem and "
            "seed; null for base",
            True,
        ),
    ),
)
