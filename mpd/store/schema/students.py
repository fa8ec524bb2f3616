"""What is measured of a student: its training, its answers, their grades."""

from mpd.store.schema.column import (
    FINISH_REASON,
    GOLD,
    NUM_TOKENS,
    PROBLEM_ID,
    PROMPT_IDS,
    SAMPLE_INDEX,
    SAMPLED_IDS,
    TEXT,
    VERDICTS,
    Artifact,
    Column,
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
        Column("loss_token_mean", "float64", "nat", "mean over tokens of what is minimised"),
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
        Column(
            "padding_share",
            "float64",
            "",
            "share of a step that is padding: 0 since sequences share a row",
        ),
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
    4,
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
        Column("verdict", "string", "", VERDICTS),
        Column("correct", "bool", "", "verdict is correct"),
        Column(
            "correct_budgets",
            "list<int32>",
            "token",
            "budgets at which the completion, cut to so many tokens, has a correct answer; those "
            "tried are 16, 24, 32, 48, 64, ... and max_new_tokens",
        ),
    ),
)
