"""The cache of log-probabilities."""

from mpd.store.schema.column import (
    CANDIDATE,
    SAMPLE_ID,
    Artifact,
    Column,
)

LOGITS = Artifact(
    "logits",
    3,
    "the cache: a row for each kept trajectory, with the log-probabilities of the teacher, or of "
    "the student where it scores; lists run over completion positions. The support of a position "
    "is its support_ids, its realised id (that of the completion) and the control ids; the other "
    "ids are pooled in tail buckets, equal ranges of ids. Log-probabilities are rounded to 5 to 8 "
    "significant bits, those of completion ids with cache: realised not at all",
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
            "entries of each position in the two flat lists; this and the next three are null with "
            "cache: hidden and realised",
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
            "input of the teacher's output head: positions × hidden size, flat; null without "
            "cache: hidden",
            nullable=True,
        ),
        Column(
            "realised_logprob",
            "list<float32>",
            "nat",
            "teacher log-probability of the completion id",
        ),
        Column(
            "control_logprobs",
            "list<float32>",
            "nat",
            "teacher log-probability of each control id: positions × control ids, flat",
        ),
        Column(
            "student_logprob",
            "list<float32>",
            "nat",
            "log-probability of the completion id under the current student, with cache: realised "
            "as stored when it sampled; null if vLLM scored, like the next two, and not stored",
            nullable=True,
        ),
        Column(
            "divergence",
            "list<float32>",
            "nat",
            "exact full-vocabulary reverse KL of the current student to the teacher",
            nullable=True,
        ),
        Column("teacher_entropy", "list<float32>", "nat", "entropy of the teacher", nullable=True),
        Column(
            "overlap",
            "float64",
            "",
            "mean share of the student's most probable ids that are among the teacher's; with "
            "cache: realised of 64",
            nullable=True,
        ),
        Column("teacher_mass", "float64", "", "mean of the teacher's mass on the support", True),
        Column(
            "student_mass", "float64", "", "mean of the current student's mass on the support", True
        ),
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
