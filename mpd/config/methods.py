"""The method grid: a method is a row of data, not code of its own.

Its axes: who samples trajectories × who rewrites them × which are kept × who scores them, and under
which prompt × which divergence training minimises. Sources are arXiv ids.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mpd.config.base import StrictModel

Sampler = Annotated[
    Literal["student", "teacher", "base"],
    Field(
        description="who samples trajectories; base: the base student, whose trajectories and "
        "their scores serve every round"
    ),
]
Rewriter = Annotated[
    Literal["teacher", "none"],
    Field(description="who rewrites trajectories; none: they are trained on as they are"),
]
Instruction = Annotated[
    Literal["rewrite", "refine", "structure"],
    Field(
        description="what the rewriter is asked for: compress.prompt, compress.refine or "
        "compress.structure"
    ),
]
Kept = Annotated[
    Literal["correct", "incorrect", "all"],
    Field(description="which completions are kept, by their answers; all: truncated ones too"),
]
Context = Annotated[
    Literal["problem", "concise", "rewriting", "solution"],
    Field(
        description="prompt of the scorer: plain, asking for brevity, the rewriting prompt, or one "
        "with a reference solution"
    ),
]
DivergenceName = Annotated[
    Literal[
        "reverse_kl",
        "forward_kl",
        "jensen_shannon",
        "mix",
        "cross_entropy",
        "clamped_forward_kl",
        "policy_gradient",
        "relaxed_policy_gradient",
        "fixed_advantage",
    ],
    Field(description="what training minimises"),
]
# Those whose reward is made from the teacher's log-probability of the realised id alone.
REWARDED = ("policy_gradient", "relaxed_policy_gradient")
# By divergence, the cache that a method has by itself, whatever the others have.
CACHES = {**dict.fromkeys(REWARDED, "realised"), "clamped_forward_kl": "hidden"}
WITHOUT_SCORES = ("cross_entropy", "fixed_advantage")  # they need no scores of a teacher


class Method(StrictModel):
    """A row of the grid."""

    trained: bool = Field(
        True, description="false: the base student is evaluated, under the request for brevity"
    )
    sampler: Sampler = "student"
    rewriter: Rewriter = "none"
    instruction: Instruction = "rewrite"
    kept: Kept = "correct"
    scorer: Literal["teacher", "student", "base"] = Field(
        "teacher",
        description="who scores; student: the student of the round before; base: the student "
        "before any training",
    )
    context: Context = "problem"
    divergence: DivergenceName = "reverse_kl"

    @model_validator(mode="after")
    def _require_possible(self) -> "Method":
        if self.scorer != "teacher" and self.rewriter == "teacher":
            raise ValueError(
                f"scorer: {self.scorer} with rewriter: teacher: who rewrote has to score; change "
                "one of the two"
            )
        if self.scorer == "student" and self.sampler == "base":
            raise ValueError(
                "scorer: student with sampler: base: the scores of the base student's trajectories "
                "serve every round; change one of the two"
            )
        if self.context == "rewriting" and self.rewriter == "none":
            raise ValueError("context: rewriting needs a rewriter; set rewriter: teacher")
        return self

    @property
    def needs_scores(self) -> bool:
        """Whether training compares student and teacher: they then need the same tokens."""
        compares = self.divergence not in WITHOUT_SCORES
        return self.trained and self.scorer == "teacher" and compares


METHODS = {
    # Mixed-Policy Distillation, 2605.08776
    "mpd": Method(rewriter="teacher"),
    # On-policy distillation in stages, 2306.13649 and 2604.13010
    "opd": Method(kept="all"),
    "off_policy": Method(sampler="teacher", divergence="forward_kl"),
    # Supervised fine-tuning on the teacher's solutions, and on the rewrites of mpd
    "sft": Method(sampler="teacher", divergence="cross_entropy"),
    "sft_rewrites": Method(rewriter="teacher", divergence="cross_entropy"),
    # Trajectory refinement, 2606.08432
    "trd": Method(
        rewriter="teacher",
        instruction="refine",
        kept="all",
        context="rewriting",
        divergence="forward_kl",
    ),
    # On-policy self-distillation for compression, 2603.05433
    "opsdc": Method(kept="all", scorer="student", context="concise"),
    # Crosslingual on-policy self-distillation, 2605.09548
    "copsd": Method(kept="all", scorer="base", context="solution", divergence="clamped_forward_kl"),
    # Semi-on-policy distillation, 2610.11291
    "semi_opd": Method(sampler="base", kept="all", divergence="policy_gradient"),
    # Relaxed on-policy distillation, 2603.11137
    "reopold": Method(kept="all", divergence="relaxed_policy_gradient"),
    # A control without a teacher, 2608.31046
    "fixed_advantage": Method(kept="all", divergence="fixed_advantage"),
    # Structural rationales, 2605.07139; compress.bank adds the bank of paths
    "drpc": Method(rewriter="teacher", instruction="structure", divergence="cross_entropy"),
    # The untrained student, asked to be brief
    "prompt_only": Method(trained=False),
}

# By section the axis that its stage reads beside the keys of the section.
AXES = {"filter": "kept", "logits": "context", "distill": "divergence"}


def require_no_axis(name: str, section: Any) -> None:
    """Raise ValueError if the section of this name has an axis among its keys.

    The error says what to write in its place.
    """
    axis = AXES.get(name)
    if axis is None or not isinstance(section, dict) or axis not in section:
        return
    value = section[axis]
    if value is None:
        raise ValueError(f"{axis}: null has no effect, the method sets this axis; remove this key")
    raise ValueError(
        f"{axis} is an axis of the method; instead of this key, write "
        f"custom: [{{name: mpd, like: mpd, axes: {{{axis}: {value}}}}}]"
    )
