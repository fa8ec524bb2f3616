"""The method grid: a method is a row of data, not code of its own.

Who samples the prefix × who rewrites it × which rows are kept × who scores, seeing what × which
divergence is minimised. Sources are arXiv ids.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mpd.config.base import StrictModel

Sampler = Annotated[Literal["student", "teacher"], Field(description="whose trajectories")]
Rewriter = Annotated[Literal["teacher", "none"], Field(description="none: y is trained on itself")]
Instruction = Annotated[
    Literal["rewrite", "refine"],
    Field(description="what the rewriter is asked: compress.prompt or compress.refine"),
]
Kept = Annotated[
    Literal["correct", "incorrect", "all"],
    Field(description="by the answer of what is trained on; all: those that were cut too"),
]
Context = Annotated[
    Literal["problem", "concise", "rewriting"],
    Field(description="what the scorer sees: x, (x, c) or (x, y, c)"),
]
DivergenceName = Annotated[
    Literal["reverse_kl", "forward_kl", "jensen_shannon", "mix", "cross_entropy"],
    Field(description="what training minimises"),
]


class Method(StrictModel):
    """A row of the grid. x is the problem, y the sampled trajectory, c an instruction."""

    trained: bool = Field(True, description="false: the base student, evaluated under (x, c)")
    sampler: Sampler = "student"
    rewriter: Rewriter = "none"
    instruction: Instruction = "rewrite"
    kept: Kept = "correct"
    scorer: Literal["teacher", "student"] = Field(
        "teacher", description="whose log-probabilities; student: that of the round before"
    )
    context: Context = "problem"
    divergence: DivergenceName = "reverse_kl"

    @model_validator(mode="after")
    def _possible(self) -> "Method":
        if self.scorer == "student" and self.rewriter == "teacher":
            raise ValueError(
                "scorer: student with rewriter: teacher: who rewrote has to score; set one of the "
                "two"
            )
        if self.context == "rewriting" and self.rewriter == "none":
            raise ValueError("context: rewriting needs a rewriter; set rewriter: teacher")
        return self


METHODS = {
    # Mixed-Policy Distillation, 2605.08776
    "mpd": Method(rewriter="teacher"),
    # on-policy distillation in stages, 2306.13649 and 2604.13010
    "opd": Method(kept="all"),
    "off_policy": Method(sampler="teacher", divergence="forward_kl"),
    # supervised on the teacher's solutions, and on the rewrites that mpd is trained on
    "sft": Method(sampler="teacher", divergence="cross_entropy"),
    "sft_rewrites": Method(rewriter="teacher", divergence="cross_entropy"),
    # trajectory refinement, 2606.08432
    "trd": Method(
        rewriter="teacher",
        instruction="refine",
        kept="all",
        context="rewriting",
        divergence="forward_kl",
    ),
    # on-policy self-distillation for compression, 2603.05433
    "opsdc": Method(kept="all", scorer="student", context="concise"),
    # the untrained student, told to be concise
    "prompt_only": Method(trained=False),
}

# What the stage of a section needs to know of the method beside its own keys.
AXES = {"filter": "kept", "logits": "context", "distill": "divergence"}


def require_no_axis(name: str, section: Any) -> None:
    """Raise ValueError, which says what to write, where a section has an axis among its keys."""
    axis = AXES.get(name)
    if axis is None or not isinstance(section, dict) or axis not in section:
        return
    value = section[axis]
    if value is None:
        raise ValueError(f"{axis}: null is what the method says anyway; remove this key")
    raise ValueError(
        f"{axis} is an axis of the method; in place of this key, write "
        f"custom: [{{name: mpd, like: mpd, axes: {{{axis}: {value}}}}}]"
    )
