"""The sections of the stages that generate: sample, compress and evaluate (of answers)."""

from typing import Any, Literal

from pydantic import Field, model_validator

from mpd.config.base import Count, Section


class Decoding(Section):
    num_samples: Count = Field(1, description="samples per problem")
    temperature: float = Field(1.0, ge=0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the mass to sample from; 1: off")
    top_k: int = Field(0, ge=0, description="most probable ids to sample from; 0: off")
    max_new_tokens: Count = Field(1024, description="a completion that reaches it is truncated")


class Engine(Section):
    engine: Literal["transformers", "vllm"] = Field("transformers", description="what runs models")
    engine_arguments: dict[str, Any] = Field(
        {}, description="further arguments of a vLLM engine, such as quantization"
    )

    @model_validator(mode="after")
    def _arguments_of_vllm(self) -> "Engine":
        if self.engine_arguments and self.engine != "vllm":
            raise ValueError("engine_arguments are those of vLLM; set engine: vllm, or remove them")
        return self


class Generation(Decoding, Engine):
    engine: Literal["transformers", "vllm", "server"] = Field(  # type: ignore[assignment]
        "transformers", description="what generates; server: that of resources.<stage>.server"
    )


class Sample(Generation):
    trajectories: str | None = Field(
        None,
        pattern=r"\.(jsonl|parquet)$",
        description="own trajectories (Parquet, JSONL: problem, text or ids), not sampled",
    )


class Compress(Generation):
    num_samples: Count = Field(1, description="candidates: rewrites per trajectory")
    prompt: str = Field(description="user message; {problem} and {trajectory} are filled in")
    refine: str = Field(
        "{problem}\n\n{trajectory}\n\nCorrect this solution where it is wrong and improve it.",
        description="the same, of methods that refine rather than shorten",
    )
    thinking: bool = Field(False, description="render the rewriting prompt with thinking enabled")

    @model_validator(mode="after")
    def _placeholders(self) -> "Compress":
        for key in ("prompt", "refine"):
            for placeholder in ("{problem}", "{trajectory}"):
                if placeholder not in getattr(self, key):
                    raise ValueError(f"{key} must contain {placeholder}")
        return self


class Evaluate(Generation):
    temperature: float = Field(0.6, ge=0, description="0 is greedy")
    top_p: float = Field(0.95, gt=0, le=1, description="share of the mass to sample from; 1: off")
    top_k: int = Field(20, ge=0, description="most probable ids to sample from; 0: off")
