"""Problems, and their trajectories up to the filter."""

from mpd.store.schema.column import (
    CANDIDATE,
    FINISH_REASON,
    GOLD,
    NUM_TOKENS,
    PROBLEM_ID,
    PROMPT_IDS,
    SAMPLE_ID,
    SAMPLE_INDEX,
    SAMPLED_IDS,
    TEXT,
    VERDICTS,
    Artifact,
    Column,
)

ASKED = ("problem_id", "question")  # the columns of PROBLEMS that answers depend on
_PROBLEM_COLUMNS = (
    PROBLEM_ID,
    Column("question", "string", "", "question as the source gives it"),
    GOLD,
    Column("source_row", "int64", "row", "row of the source, from 0"),
)
SCORED_PROBLEMS = Artifact(
    "scored_problems",
    1,
    "in place of `problems`, those of source: reasoning_gym: each has a scorer of its own, which "
    "grades answers; where several are right, `gold` is one of them or says so",
    ("problem_id",),
    (
        *_PROBLEM_COLUMNS,
        Column(
            "scorer", "string", "", "package, version and task, reasoning-gym==<version>:<task>"
        ),
        Column(
            "entry",
            "string",
            "",
            "what the scorer needs, as JSON: level and settings of its task, and the entry "
            "that the package made, in which (tuple) and (pairs) mark tuples and mappings",
        ),
    ),
)
CURRICULUM_PROBLEMS = Artifact(
    "curriculum_problems",
    1,
    "in place of `scored_problems`, those of a training shard with `curriculum`",
    ("problem_id",),
    (
        *SCORED_PROBLEMS.columns,
        Column("first_round", "int32", "", "first round that samples the problem"),
        Column(
            "last_round",
            "int32",
            "",
            "last round that samples the problem; null: all that follow do",
            nullable=True,
        ),
    ),
)
PROBLEMS = Artifact(
    "problems",
    3,
    "problems of a training shard, of the development split or of a benchmark",
    ("problem_id",),
    _PROBLEM_COLUMNS,
    extensions=(SCORED_PROBLEMS, CURRICULUM_PROBLEMS),
)

DROPPED = Artifact(
    "dropped",
    3,
    "training problems that were left out, with the reason",
    ("source_row",),
    (
        Column("source_row", "int64", "row", "row of the source, from 0"),
        Column(
            "problem_id",
            "string",
            "",
            "digest of the normalised question; null if the row has none",
            nullable=True,
        ),
        Column(
            "question",
            "string",
            "",
            "question as the source gives it; null if the row has none",
            nullable=True,
        ),
        Column(
            "reason",
            "string",
            "",
            "duplicate, in_benchmark (same normalised question), overlaps_benchmark "
            "(shares 13 words in a row), in_dev and overlaps_dev (the same with problems.dev), "
            "not_selected (outside the seeded subset), or "
            "unreadable: and why, with problems.on_bad_row: drop",
        ),
    ),
)

REFERENCES = Artifact(
    "references",
    1,
    "what a scorer may see of training problems beside their questions, where the source has it",
    ("problem_id",),
    (
        PROBLEM_ID,
        Column("original", "string", "", "original of a translated question", nullable=True),
        Column("solution", "string", "", "reference solution"),
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
            "log-probability of each completion id under the model that sampled, at temperature 1, "
            "before top-k and top-p; null if the user gave the trajectory",
            nullable=True,
        ),
        TEXT,
        FINISH_REASON,
        NUM_TOKENS,
    ),
)

COMPRESS = Artifact(
    "compress",
    3,
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
            "sample_lossy (a given text, letters of which the student's tokenizer changes), "
            "sample_unsayable (it has a word that the teacher's tokenizer lacks), "
            "rewriting_prompt_too_long, rewrite_truncated, rewrite_too_long (for the context of "
            "student or teacher), format (no answer line, thinking "
            "without an end, or text that the student's tokenizer cannot encode)",
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
    3,
    "verdicts on every sample and rewrite",
    ("sample_id", "candidate"),
    (
        SAMPLE_ID,
        CANDIDATE,
        PROBLEM_ID,
        GOLD,
        Column("sample_answer", "string", "", "final answer of the sample", nullable=True),
        Column("sample_verdict", "string", "", f"of the sample: {VERDICTS}"),
        Column("answer", "string", "", "final answer of the rewrite", nullable=True),
        Column("verdict", "string", "", f"of the rewrite: {VERDICTS}"),
        Column("correct", "bool", "", "verdict is correct"),
        Column("truncated", "bool", "", "sample or rewrite was cut by its token limit"),
        Column("too_long", "bool", "", "outside the context of a model, or over max_tokens"),
        Column("format", "bool", "", "there is a whole rewrite in the student's format"),
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
        Column("leak", "bool", "", "rewrite has a phrase of filter.leaks"),
        Column("copy", "bool", "", "rewrite has the same tokens as the sample"),
        Column("repetition", "bool", "", "a run of tokens is repeated more often than max_repeats"),
        Column("keep", "bool", "", "shortest candidate of its sample that passes every check"),
        Column(
            "reason",
            "string",
            "",
            "kept, the first check that failed, or longer_candidate (a shorter one is kept)",
        ),
    ),
)
