"""What the sections of all stages share that run models."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mpd.config.base import Count, FromJob, FromKey, Seed, StageSettings, StrictModel
from mpd.config.models import Dtype

Precision = Annotated[Dtype, FromKey("models.dtype"), Field(description="in which models run")]
BranchSeed = Annotated[Seed, FromJob("branch"), Field(description="of the branch")]


class Decoding(StrictModel):
    num_samples: Count = Field(1, description="samples per problem")
    temperature: float = Field(1.0, ge=0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the mass to sample from; 1: off")
    top_k: int = Field(0, ge=0, description="most probable ids to sample from; 0: off")
    max_new_tokens: Count = Field(1024, description="a completion that reaches it is truncated")


class EngineChoice(StrictModel):
    engine: Literal["transformers", "vllm"] = Field("transformers", description="what runs models")
    engine_arguments: dict[str, Any] = Field(
        {}, description="further arguments of a vLLM engine, such as quantization"
    )

    @model_validator(mode="after")
    def _arguments_of_vllm(self) -> "EngineChoice":
        if self.engine_arguments and self.engine != "vllm":
            raise ValueError("engine_arguments are those of vLLM; set engine: vllm, or remove them")
        return self


class GenerationEngineChoice(EngineChoice):
    engine: Literal["transformers", "vllm", "server"] = Field(  # type: ignore[assignment]
        "transformers", description="what generates; server: that of resources.<stage>.server"
    )


class Generation(Decoding, GenerationEngineChoice):
    """What a section has whose stage generates."""


class EngineSettings(GenerationEngineChoice, StageSettings):
    """What an engine needs to know to load a model."""

    dtype: Precision = "float32"
