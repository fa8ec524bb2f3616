"""What the sections of all stages that run models share."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mpd.config.base import Count, FromJob, FromKey, Gate, Seed, StageSettings, StrictModel
from mpd.config.models import Dtype

Precision = Annotated[
    Dtype, FromKey("models.dtype"), Field(description="precision in which models run")
]
NeedsScores = Annotated[
    bool,
    FromJob("method"),
    Gate(),
    Field(
        exclude_if=lambda needed: needed,
        description="whether training needs the teacher's scores, and so a teacher with the "
        "student's tokens",
    ),
]
BranchSeed = Annotated[Seed, FromJob("branch"), Field(description="seed of the branch")]


class Decoding(StrictModel):
    """How completions are sampled from a model."""

    num_samples: Count = Field(1, description="samples per problem")
    temperature: float = Field(1.0, ge=0, description="sampling temperature; 0: greedy")
    top_p: float = Field(
        1.0, gt=0, le=1, description="probability mass to sample from (nucleus sampling); 1: off"
    )
    top_k: int = Field(0, ge=0, description="number of most probable ids to sample from; 0: off")
    max_new_tokens: Count = Field(
        1024, description="longest completion, in tokens; one that reaches it is truncated"
    )


class EngineChoice(StrictModel):
    """Which engine runs models, with arguments of its own."""

    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="what runs the models; vllm runs only the teacher"
    )
    engine_arguments: dict[str, Any] = Field(
        {}, description="further arguments of the vLLM engine, such as quantization"
    )

    @model_validator(mode="after")
    def _require_vllm_for_arguments(self) -> "EngineChoice":
        if self.engine_arguments and self.engine != "vllm":
            raise ValueError("engine_arguments are for vLLM; set engine: vllm, or remove them")
        if isinstance(self.engine_arguments.get("hf_token"), str):
            raise ValueError(
                "engine_arguments: hf_token would be written beside every result; set HF_TOKEN in "
                "the environment instead"
            )
        seed = self.engine_arguments.get("seed", 0)
        if isinstance(seed, int) and not 0 <= seed < 2**32:
            raise ValueError(f"engine_arguments: seed {seed} must be from 0 to 4294967295")
        return self


class GenerationEngineChoice(EngineChoice):
    """Which engine generates: it may also be a server."""

    engine: Literal["transformers", "vllm", "server"] = Field(  # type: ignore[assignment]
        "transformers", description="what generates; server: that of resources.<stage>.server"
    )


class Generation(Decoding, GenerationEngineChoice):
    """The section of a stage that generates."""


class EngineSettings(GenerationEngineChoice, StageSettings):
    """The settings that an engine needs to load a model."""

    dtype: Precision = "float32"
