"""Columns, dtypes, units and VERSION of every artifact. No I/O, no heavy import.

A stage writes the keys and its own columns; readers join strictly on the keys:
`problem_id` (digest of the normalised question), `sample_id`, `candidate`.
Raise an artifact's `version` whenever the same inputs and settings give other rows:
the version is part of its fingerprint, so the store then computes it anew. A folder has the
versions of all its tables, see `problems_version` and `student_version`.
"""

import sys
from dataclasses import dataclass

Version = int | list[int]  # of a folder it may be several


@dataclass(frozen=True)
class Column:
    """One column. `dtype` is spelled as Arrow prints it; `unit` is empty where there is none."""

    name: str
    dtype: str
    unit: str
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Artifact:
    """One kind of file. `key` names the columns that identify a row."""

    name: str
    version: int
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


PROBLEM_ID = Column("problem_id", "string", "", "digest of the normalised question")
SAMPLE_INDEX = Column("sample_index", "int32", "", "index of the sample among those of its problem")
SAMPLE_ID = Column("sample_id", "string", "", "problem_id, a dash, the sample's index")
CANDIDATE = Column("candidate", "int32", "", "index of the rewrite among those of its sample")
GOLD = Column("gold", "string", "", "gold answer")
PROMPT_IDS = Column("prompt_ids", "list<int32>", "token id", "rendered prompt of the student")
SAMPLED_IDS = Column("completion_ids", "list<int32>", "token id", "sampled ids, stop id included")
TEXT = Column("text", "string", "", "completion without the stop token, control tokens shown")
FINISH_REASON = Column(
    "finish_reason",
    "string",
    "",
    "stop, length (cut by the token limit), too_long (the prompt does not fit)",
)
NUM_TOKENS = Column("num_tokens", "int32", "token", "length of completion_ids")

PROBLEMS = Artifact(
    "problems",
    2,
    "problems of a training shard, of the development split or of a benchmark",
    ("problem_id",),
    (
        PROBLEM_ID,
        Column("question", "string", "", "question as the source gives it"),
        GOLD,
        Column("source_row", "int64", "row", "row of the source, from 0"),
    ),
)

DROPPED = Artifact(
    "dropped",
    2,
    "training problems that were left out, with the reason",
    ("source_row",),
    (
        Column("source_row", "int64", "row", "row of the source, from 0"),
        PROBLEM_ID,
        Column("question", "string", "", "question as the source gives it"),
        Column(
            "reason",
            "string",
            "",
            "duplicate, in_benchmark (same normalised question), overlaps_benchmark "
            "(shares 13 words in a row), not_selected (outside the seeded subset)",
        ),
    ),
)

SAMPLE = Artifact(
    "sample",
    1,
    "the student's trajectories",
    ("sample_id",),
    (
        SAMPLE_ID,
        PROBLEM_ID,
        SAMPLE_INDEX,
        PROMPT_IDS,
        SAMPLED_IDS,
        Column(
            "logprobs",
            "list<float32>",
            "nat",
            "student's log-probability of each completion id at temperature 1, before top-k and "
            "top-p; null where the trajectory was given by the user",
            nullable=True,
        ),
        TEXT,
        FINISH_REASON,
        NUM_TOKENS,
    ),
)

COMPRESS = Artifact(
    "compress",
    2,
    "the teacher's rewrites, put back in the student's format; one row per candidate, "
    "or a single row with a status where a trajectory could not be rewritten",
    ("sample_id", "candidate"),
    (
        SAMPLE_ID,
        CANDIDATE,
        Column(
            "status",
            "string",
            "",
            "ok, sample_truncated, sample_too_long (the prompt of the sample did not fit), "
            "sample_unsayable (a word that the teacher's tokenizer lacks), "
            "rewriting_prompt_too_long, rewrite_truncated, rewrite_too_long (for the context of "
            "student or teacher), format (no answer line, or text that "
            "the student's tokenizer cannot say)",
        ),
        Column("rewrite", "string", "", "the teacher's text, verbatim", nullable=True),
        Column("rewrite_tokens", "int32", "token", "tokens that the teacher generated"),
        Column("text", "string", "", "rewrite in the student's format", nullable=True),
        Column(
            "completion_ids",
            "list<int32>",
            "token id",
            "trained completion, stop id included; every later stage uses exactly these ids",
            nullable=True,
        ),
        Column("num_tokens", "int32", "token", "length of completion_ids", nullable=True),
    ),
)

FILTER = Artifact(
    "filter",
    2,
    "verdicts on every sample and rewrite",
    ("sample_id", "candidate"),
    (
        SAMPLE_ID,
        CANDIDATE,
        PROBLEM_ID,
        GOLD,
        Column("sample_answer", "string", "", "final answer of the sample", nullable=True),
        Column("sample_verdict", "string", "", "correct, wrong, none, unparsed or timeout"),
        Column("answer", "string", "", "final answer of the rewrite", nullable=True),
        Column("verdict", "string", "", "correct, wrong, none, unparsed or timeout"),
        Column("correct", "bool", "", "verdict is correct"),
        Column("truncated", "bool", "", "sample or rewrite was cut by its token limit"),
        Column("too_long", "bool", "", "outside the context of a model, or over max_tokens"),
        Column("format", "bool", "", "a whole rewrite in the student's format is there"),
        Column("sample_tokens", "int32", "token", "completion tokens of the sample"),
        Column("num_tokens", "int32", "token", "completion tokens of the rewrite", nullable=True),
        Column("ratio", "float64", "", "num_tokens over sample_tokens", nullable=True),
        Column(
            "overlap",
            "float64",
            "",
            "share of the rewrite's token trigrams that occur in the sample",
            nullable=True,
        ),
        Column("leak", "bool", "", "rewrite speaks of the draft or of the instruction"),
        Column("copy", "bool", "", "rewrite is the sample, to the token"),
        Column("repetition", "bool", "", "rewrite repeats one run of tokens over and over"),
        Column("keep", "bool", "", "shortest candidate of its sample that passes every check"),
        Column("reason", "string", "", "kept, or the first check that failed"),
    ),
)

LOGITS = Artifact(
    "logits",
    3,
    "teacher log-probabilities on the kept trajectories; lists run over completion positions. "
    "The support of a position is its support_ids, its realised id and the control ids; what is "
    "outside stands in tail buckets, equal ranges of ids. Rounded to 5 to 8 significant bits",
    ("sample_id", "candidate"),
    (
        SAMPLE_ID,
        CANDIDATE,
        Column("prompt_ids", "list<int32>", "token id", "plain student prompt"),
        Column(
            "teacher_prompt_ids",
            "list<int32>",
            "token id",
            "prompt under which the teacher scored; null where it is the plain one",
            nullable=True,
        ),
        Column("completion_ids", "list<int32>", "token id", "trained completion"),
        Column("num_tokens", "int32", "token", "length of completion_ids"),
        Column(
            "think_end",
            "int32",
            "position",
            "where the end of thinking begins in completion_ids",
            nullable=True,
        ),
        Column("ids_digest", "string", "", "digest of prompt_ids and completion_ids"),
        Column(
            "control_ids",
            "list<int32>",
            "token id",
            "end of thinking, stop ids; none where vLLM scored",
        ),
        Column(
            "support_size",
            "list<int32>",
            "",
            "entries of each position in the flat lists; this and the next three are null with "
            "cache: hidden",
            nullable=True,
        ),
        Column(
            "support_ids",
            "list<int32>",
            "token id",
            "flat; without realised and control ids",
            nullable=True,
        ),
        Column("support_logprobs", "list<float32>", "nat", "flat; teacher log-probabilities", True),
        Column(
            "tail_logprobs",
            "list<float32>",
            "nat",
            "log of the teacher's mass in each tail bucket: positions × buckets, flat",
            nullable=True,
        ),
        Column(
            "teacher_hidden",
            "list<float32>",
            "",
            "input of the teacher's output head: positions × hidden size, flat; null with "
            "cache: sparse",
            nullable=True,
        ),
        Column("realised_logprob", "list<float32>", "nat", "teacher, of the completion id"),
        Column(
            "control_logprobs",
            "list<float32>",
            "nat",
            "teacher, of each control id: positions × control ids, flat",
        ),
        Column(
            "student_logprob",
            "list<float32>",
            "nat",
            "current student, of the completion id; null where vLLM scored, as the next two",
            nullable=True,
        ),
        Column(
            "divergence",
            "list<float32>",
            "nat",
            "exact dense reverse KL of the current student to the teacher",
            nullable=True,
        ),
        Column("teacher_entropy", "list<float32>", "nat", "entropy of the teacher", nullable=True),
        Column(
            "overlap",
            "float64",
            "",
            "share of the student's most probable ids that are among the teacher's, mean",
            nullable=True,
        ),
        Column("teacher_mass", "float64", "", "teacher's mass on the support, mean", True),
        Column("student_mass", "float64", "", "current student's mass on the support, mean", True),
        Column("mean_teacher_logprob", "float64", "nat", "mean of realised_logprob"),
        Column(
            "think_close_logprob",
            "float64",
            "nat",
            "teacher log-probability of the end of thinking where thinking ends",
            nullable=True,
        ),
        Column("stop_logprob", "float64", "nat", "teacher log-probability of the last id"),
    ),
)

METRICS = Artifact(
    "metrics",
    2,
    "training metrics, one row per optimiser step",
    ("step",),
    (
        Column("step", "int32", "", "optimiser step, from 1"),
        Column("learning_rate", "float64", "", "learning rate of this step"),
        Column("loss", "float64", "nat", "the objective that was minimised"),
        Column("loss_token_mean", "float64", "nat", "divergence, mean over completion tokens"),
        Column("loss_sequence_mean", "float64", "nat", "mean over trajectories of their means"),
        Column("teacher_tail_mass", "float64", "", "mean teacher mass off the support"),
        Column("student_tail_mass", "float64", "", "mean student mass off the support"),
        Column("student_entropy", "float64", "nat", "mean entropy of the student"),
        Column("realised_logprob", "float64", "nat", "mean student log-probability of the ids"),
        Column(
            "think_close_mass",
            "float64",
            "",
            "mean student probability of ending the thinking where it ends",
            nullable=True,
        ),
        Column("stop_mass", "float64", "", "mean student probability of the last id"),
        Column("gradient_norm", "float64", "", "norm of the gradient before clipping"),
        Column("padding_share", "float64", "", "share of the tokens of the step that is padding"),
        Column("num_tokens", "int64", "token", "completion tokens of this step"),
        Column("tokens_seen", "int64", "token", "completion tokens so far"),
    ),
)

ANSWERS = Artifact(
    "answers",
    1,
    "a student's answers to a benchmark, every one kept",
    ("problem_id", "sample_index"),
    (PROBLEM_ID, SAMPLE_INDEX, PROMPT_IDS, SAMPLED_IDS, TEXT, FINISH_REASON, NUM_TOKENS),
)

EVALUATE = Artifact(
    "evaluate",
    3,
    "grades of a student's answers to a benchmark, one for each",
    ("problem_id", "sample_index"),
    (
        PROBLEM_ID,
        SAMPLE_INDEX,
        GOLD,
        FINISH_REASON,
        Column("num_tokens", "int32", "token", "completion tokens of the answer"),
        Column("thinking_tokens", "int32", "token", "of these, up to the end of thinking"),
        Column("answer", "string", "", "final answer", nullable=True),
        Column("verdict", "string", "", "correct, wrong, none, unparsed or timeout"),
        Column("correct", "bool", "", "verdict is correct"),
        Column(
            "correct_budgets",
            "list<int32>",
            "token",
            "of the budgets 16, 24, 32, 48, 64, ... and max_new_tokens those at which the answer "
            "of the completion, cut to so many tokens, is correct",
        ),
    ),
)

METHOD = Column("method", "string", "", "method of the grid")
METHOD_OR_BASE = Column("method", "string", "", "method of the grid, or base")
ROUND = Column("round", "int32", "", "training rounds behind this student")
BENCHMARK = Column("benchmark", "string", "", "name of the benchmark; dev is the development split")

SUMMARY = Artifact(
    "summary",
    2,
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
        Column("thinking_tokens", "float64", "token", "of mean_tokens, up to the end of thinking"),
        Column("answer_tokens", "float64", "token", "of mean_tokens, after the end of thinking"),
        Column(
            "solved_tokens",
            "float64",
            "token",
            "mean over the problems solved of the mean tokens of correct samples. Of other "
            "problems for every student: see comparison for those that both solve",
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
    3,
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
            "what is subtracted: base, the untrained student, or mpd, of the same round; of its "
            "last round from a method that trains nothing",
        ),
        Column("num_seeds", "int32", "", "seeds that both have"),
        Column("num_solved", "int32", "", "problems that both solve, summed over seeds"),
        *_with_interval("accuracy", "", "difference of the share of correct samples"),
        *_with_interval("tokens", "token", "difference of completion tokens", True),
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
            "accuracy-efficiency score, see summary, of the means over all seeds; null against "
            "others than base and where the base student solves nothing",
            True,
        ),
    ),
)

BUDGETS = Artifact(
    "budgets",
    2,
    "accuracy, had every answer been cut at so many tokens; prefixes of the same outputs, seeds "
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
    "samples; seeds pooled, intervals as in comparison. The bins are made from the base student's "
    "own answers, so its accuracy in them is as it is by selection, and its tokens too where wrong "
    "answers are longer than right ones; a student that is no better comes out nearer to the mean: "
    "compare other students with each other",
    ("method", "round", "benchmark", "bin"),
    (
        METHOD_OR_BASE,
        ROUND,
        BENCHMARK,
        Column("bin", "string", "", "never, up to half, more than half or always solved by base"),
        Column("num_seeds", "int32", "", "seeds that are pooled"),
        Column("num_problems", "int32", "", "problems of the bin; a bin without has no row"),
        *_with_interval("accuracy", "", "avg@k on them"),
        *_with_interval("tokens", "token", "mean completion tokens on them", True),
        *_with_interval(
            "saved_tokens",
            "token",
            "the base student's tokens less the student's own, on the same problem and seed, "
            "mean; null for base",
            True,
        ),
    ),
)

COSTS = Artifact(
    "costs",
    3,
    "what each round of each method cost and what its teacher thought of the trained completions; "
    "sums over seeds, each method in full, also where it shares what another computed",
    ("method", "round"),
    (
        METHOD,
        ROUND,
        Column("num_seeds", "int32", "", "seeds that are summed"),
        Column("num_samples", "int64", "", "samples drawn"),
        Column("student_tokens", "int64", "token", "tokens that the student generated"),
        Column("teacher_tokens", "int64", "token", "tokens that the teacher generated"),
        Column("kept_rows", "int64", "", "trajectories that passed the filter"),
        Column("scored_tokens", "int64", "token", "completion tokens that the teacher scored"),
        Column("num_steps", "int64", "", "optimiser steps"),
        Column("trained_tokens", "int64", "token", "completion tokens trained on, each epoch anew"),
        Column("share_kept", "float64", "", "kept_rows over num_samples"),
        Column(
            "wall_seconds",
            "float64",
            "s",
            "wall time of computing the artifacts of the round, evaluation apart, also where the "
            "store had them; null where a note does not say",
            nullable=True,
        ),
        Column(
            "evaluation_seconds",
            "float64",
            "s",
            "wall time of sampling and grading the held-out answers; null as above",
            nullable=True,
        ),
        Column(
            "mean_teacher_logprob",
            "float64",
            "nat",
            "mean over trained completions of the teacher's mean log-probability of their ids",
            nullable=True,
        ),
        Column(
            "think_close_logprob",
            "float64",
            "nat",
            "mean teacher log-probability of the end of thinking where thinking ends",
            nullable=True,
        ),
        Column(
            "stop_logprob",
            "float64",
            "nat",
            "mean teacher log-probability of the last id",
            nullable=True,
        ),
        Column(
            "think_close_mass",
            "float64",
            "",
            "mean teacher probability of the end of thinking where thinking ends",
            nullable=True,
        ),
        Column(
            "divergence",
            "float64",
            "nat",
            "mean over trained tokens of the exact reverse KL to the scorer before training",
            nullable=True,
        ),
    ),
)

# What is no table of ours (weights, a student, the report) has a version too.
MODELS_VERSION = 3
HEAD_VERSION = 1
REPORT_VERSION = 13
STUDENT_VERSION = 2


def problems_version() -> Version:
    """The version of the folder of training problems, in which `dropped` is too.

    While that has version 2 it is the number of `problems` alone, as before both counted, so that
    what was computed then stays valid.
    """
    return PROBLEMS.version if DROPPED.version == 2 else [PROBLEMS.version, DROPPED.version]


def student_version() -> Version:
    """The version of a student's folder, in which `metrics` are too; as in `problems_version`."""
    return STUDENT_VERSION if METRICS.version == 2 else [STUDENT_VERSION, METRICS.version]


ARTIFACTS = (
    *(PROBLEMS, DROPPED, SAMPLE, COMPRESS, FILTER, LOGITS, METRICS, ANSWERS, EVALUATE),
    *(SUMMARY, COMPARISON, BUDGETS, DIFFICULTY, COSTS),
)


def markdown() -> str:
    """The artifact reference, docs/artifacts.md: a table for each artifact."""
    sections = []
    for artifact in ARTIFACTS:
        key = ", ".join(f"`{name}`" for name in artifact.key)
        rows = "\n".join(
            f"| `{column.name}` | {column.dtype}{', null' if column.nullable else ''} "
            f"| {column.unit} | {column.description} |"
            for column in artifact.columns
        )
        sections.append(
            f"**{artifact.name}** (version {artifact.version}, key {key}): "
            f"{artifact.description}.\n\n"
            f"| column | type | unit | what |\n| --- | --- | --- | --- |\n{rows}\n"
        )
    return "\n".join(sections)


if __name__ == "__main__":
    # A document is UTF-8, whatever the terminal.
    sys.stdout.buffer.write(f"{markdown()}\n".encode())
