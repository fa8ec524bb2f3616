"""The section models: the student, the teacher, and the settings of their stage."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mpd.config.base import COMMIT, Count, FromJob, Seed, StageSettings, StrictModel, World


class TinyModel(StrictModel):
    """A model of the embedded world, pretrained on first use."""

    source: Literal["tiny"] = Field(description="a model of the embedded world")
    world: World = "chains"
    num_steps: Count | None = Field(
        None,
        description="pretraining steps; null: as many as the role needs; fewer for a quick trial",
    )


class FolderModel(StrictModel):
    """A model folder on this machine."""

    source: Literal["folder"] = Field(description="a model folder on this machine")
    path: str = Field(description="local folder with weights, tokenizer and chat template")


class HubModel(StrictModel):
    """A model of the Hugging Face hub, at one commit."""

    source: Literal["hub"] = Field(description="a model of the Hugging Face hub")
    path: str = Field(description="name on the hub, such as Qwen/Qwen3-1.7B")
    revision: str = Field(
        pattern=COMMIT, description="full commit hash, so that a rerun gets the same model"
    )


class GgufModel(StrictModel):
    """A model in a GGUF file, dequantised."""

    source: Literal["gguf"] = Field(description="a GGUF file, which is dequantised")
    path: str = Field(description="GGUF file, or package:<package>/<file> of an installed package")


ModelSource = Annotated[
    TinyModel | FolderModel | HubModel | GgufModel, Field(discriminator="source")
]

EmbedderSource = Annotated[FolderModel | HubModel, Field(discriminator="source")]

Dtype = Literal["float32", "bfloat16"]


class Models(StrictModel):
    """The section: where the models come from, and their precision."""

    student: ModelSource = Field(
        description="the model that is trained; its keys, by source, are below"
    )
    teacher: ModelSource = Field(
        description="the model that rewrites and scores; its keys, by source, are below"
    )
    dtype: Dtype = Field(
        "float32",
        description="precision in which models generate and score; trained weights stay float32",
    )

    embedder: EmbedderSource | None = Field(
        None,
        description="the model that embeds questions and intents, which compress.bank needs, such "
        "as sentence-transformers/all-MiniLM-L6-v2; its keys, by source, are below",
    )

    def source_of(self, role: str) -> ModelSource:
        """The source of a role of the workflow: teacher, student_seed_<n>, or embedder.

        Raises ValueError where there is no embedder.
        """
        if role == "embedder":
            if self.embedder is None:
                raise ValueError("models.embedder: null; set it to a folder or a model of the hub")
            return self.embedder
        return self.teacher if role == "teacher" else self.student


# By world and role: the version of a model's sizes and examples, where it is not the first. Whoever
# changes one of these raises it: a stored model of the version before is not taken for the new one.
PRETRAINING = {("chains", "teacher"): 2}


class RoleSettings(StageSettings):
    """Settings of one of the models."""

    section: ClassVar[str] = "models.{role}"


Embeds = Annotated[
    bool,
    FromJob("model"),
    Field(
        exclude_if=lambda embeds: not embeds,
        description="whether it is the embedder, which needs no chat template",
    ),
]


class TinySettings(TinyModel, RoleSettings):
    """Settings for a model of the embedded world."""

    role: Annotated[Literal["student", "teacher"], FromJob("model")] = Field(
        description="student or teacher"
    )
    seed: Annotated[Seed, FromJob("branch")] = Field(
        0, description="seed of the student's pretraining; the teacher has 0"
    )
    pretraining: Annotated[int, FromJob("model")] = Field(
        1,
        exclude_if=lambda version: version == 1,
        description="version of the role's sizes and examples",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, given: Any) -> Any:
        """The settings with the version of this code, which is the only one that it pretrains."""
        if not isinstance(given, dict):
            return given
        role = (str(given.get("world", "chains")), str(given.get("role")))
        version = PRETRAINING.get(role, 1)
        if given.get("pretraining", version) != version:
            raise ValueError(f"pretraining: this code pretrains version {version}; remove the key")
        return {**given, "pretraining": version}


class FolderSettings(FolderModel, RoleSettings):
    """Settings for a model folder on this machine."""

    embeds: Embeds = False


class HubSettings(HubModel, RoleSettings):
    """Settings for a model of the Hugging Face hub."""

    embeds: Embeds = False


class GgufSettings(GgufModel, RoleSettings):
    """Settings for a GGUF file."""


ModelsSettings = Annotated[
    TinySettings | FolderSettings | HubSettings | GgufSettings, Field(discriminator="source")
]
