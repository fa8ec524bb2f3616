"""The one definition of config.yaml: sections, defaults, ranges; unknown keys are refused.

A section named like a stage holds what gives that stage its meaning: editing it visits the
stage and what follows; `evaluate` is that of the stage `answers` too. `resources` holds what
cannot change a result (batch and part sizes, threads, GPUs): editing it visits nothing.

Stages never read config.yaml. The Snakefile validates it here and hands each stage its
settings as JSON (mpd/settings.py).
"""

import datetime
import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mpd.exact import require_exact
from mpd.methods import METHODS, SECTIONS, Divergence, Method, method_of

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
COMMIT = "^[0-9a-f]{40}$"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TinyModel(Section):
    """A model of the embedded world, pretrained on first use."""

    source: Literal["tiny"] = Field(description="a model of the embedded world")
    num_steps: Count | None = Field(None, description="pretraining steps; null: the world's own")


class FolderModel(Section):
    source: Literal["folder"] = Field(description="a model folder on this machine")
    path: str = Field(description="local folder with weights, tokenizer and chat template")


class HubModel(Section):
    source: Literal["hub"] = Field(description="a model of the Hugging Face hub")
    path: str = Field(description="name on the hub, such as Qwen/Qwen3-1.7B")
    revision: str = Field(
        pattern=COMMIT, description="full commit hash, so that a rerun means the same"
    )


class GgufModel(Section):
    source: Literal["gguf"] = Field(description="a GGUF file, unpacked")
    path: str = Field(description="GGUF file, or package:<package>/<file> of an installed package")


ModelSource = Annotated[
    TinyModel | FolderModel | HubModel | GgufModel, Field(discriminator="source")
]


class Models(Section):
    student: ModelSource = Field(description="the model that is trained; keys by source below")
    teacher: ModelSource = Field(
        description="the model that rewrites and scores; keys by source below"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="in which models generate and score; training keeps float32 weights"
    )


class Chat(Section):
    prompt: str = Field("{problem}", description="user message; {problem} is the question")
    concise: str = Field(
        "{problem}\n\nThink as briefly as you can.",
        description="user message that asks for brevity, for the methods that do",
    )
    thinking: bool = Field(True, description="render the student's prompt with thinking enabled")
    think: Literal["tags", "none"] = Field(
        "tags", description="tags: reasoning stands between open and close; none: no such tags"
    )
    open: str = Field("<think>\n", description="what comes before the reasoning")
    close: str = Field("\n</think>\n\n", description="what stands between reasoning and answer")
    date: str | None = Field(
        None,
        pattern=r"^\d{4}-\d\d-\d\d$",
        description="the day, such as 2025-01-31, for a chat template that puts one into prompts",
    )

    @field_validator("date", mode="before")
    @classmethod
    def _as_text(cls, day: Any) -> Any:
        return str(day) if isinstance(day, datetime.date) else day  # YAML makes it one

    @field_validator("date")
    @classmethod
    def _in_the_calendar(cls, day: str | None) -> str | None:
        if day:
            datetime.date.fromisoformat(day)
        return day

    @model_validator(mode="after")
    def _placeholder(self) -> "Chat":
        for key in ("prompt", "concise"):
            if "{problem}" not in getattr(self, key):
                raise ValueError(f"{key} must contain {{problem}}")
        if self.think == "tags" and not self.close.strip():
            raise ValueError("think: tags needs a close tag; set close, or think: none")
        # Qwen3's template then writes an empty think block: what follows it is the answer.
        if self.think == "tags" and not self.thinking:
            raise ValueError(
                "thinking: false with think: tags: completions then have no close tag, and no "
                "answer would be found; set think: none"
            )
        return self


class Source(Section):
    """Where problems come from, and which columns hold them."""

    source: Literal["file", "hub", "tiny"] = Field(
        "file", description="a file, a dataset of the hub, or the embedded world"
    )
    path: str | None = Field(
        None, description="file (JSONL, JSON, Parquet, CSV) or hub dataset; null: problems.path"
    )
    config: str | None = Field(None, description="configuration of a hub dataset")
    split: str = Field("train", description="split, with slices such as train[:500]")
    revision: str | None = Field(
        None, pattern=COMMIT, description="full commit hash of a hub dataset"
    )
    question: str = Field("question", description="column of the question")
    answer: str = Field("answer", description="column of the answer")
    form: Literal["auto", "plain", "hash", "boxed"] = Field(
        "auto", description="the gold answer is the cell, or follows ####, or stands in the box"
    )
    num_problems: Count | None = Field(
        None,
        description="embedded world: how many to make; other benchmarks: size of a seeded subset",
    )

    @model_validator(mode="after")
    def _complete(self) -> "Source":
        if self.source == "tiny" and self.num_problems is None:
            raise ValueError("source: tiny needs num_problems")
        if self.source == "hub" and self.revision is None:
            raise ValueError("source: hub needs revision, a commit hash")
        return self


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


class Benchmark(Source):
    """A held-out set. Decoding keys given here take the place of those of `evaluate`."""

    name: Name = Field(description="names its file and its rows in the report")
    num_samples: Count | None = Field(None, description="null: that of evaluate; so the next")
    temperature: float | None = Field(None, ge=0, description="0 is greedy")
    top_p: float | None = Field(None, gt=0, le=1, description="share of the mass to sample from")
    top_k: int | None = Field(None, ge=0, description="most probable ids to sample from; 0: off")
    max_new_tokens: Count | None = Field(None, description="what reaches it is truncated")


class Problems(Section):
    path: str | None = Field(None, description="file of the sources that name no path")
    train: Source = Field(description="where training problems come from; keys below")
    num_train: Count | None = Field(None, description="training problems; null: all that are left")
    num_dev: Count = Field(description="problems of the development split")
    num_shards: Count = Field(1, description="parts of the training problems: jobs of their own")
    seed: int = Field(0, ge=0, description="of the subset and the split")
    benchmarks: tuple[Benchmark, ...] = Field((), description="held-out sets; keys below")

    @model_validator(mode="after")
    def _consistent(self) -> "Problems":
        names = [benchmark.name for benchmark in self.benchmarks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"benchmark {twice[0]} is given twice; give it another name")
        if "dev" in names:
            raise ValueError("benchmark dev: that name is the development split's; take another")
        for place, source in [("train", self.train), *zip(names, self.benchmarks, strict=True)]:
            if source.source != "tiny" and not (source.path or self.path):
                raise ValueError(f"{place} has no path; set its path, or problems.path for all")
        if self.train.source != "tiny" and self.train.num_problems is not None:
            raise ValueError(
                "train.num_problems is for source: tiny; set it to null, and num_train"
            )
        return self


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


class Filter(Section):
    kept: Literal["correct", "incorrect", "all"] | None = Field(
        None, description="by the answer of what is trained on; null: as the method says"
    )
    min_ratio: float = Field(0.02, ge=0, description="tokens of the rewrite over the sample's")
    max_ratio: float = Field(1.0, gt=0, description="tokens of the rewrite over the sample's")
    max_overlap: Share = Field(1.0, description="share of the rewrite's trigrams in the sample")
    max_tokens: Count | None = Field(None, description="longest trained completion; null: any")
    leaks: tuple[str, ...] = Field(
        (), description="phrases (any case) that a rewrite must not contain"
    )
    copies: Literal["keep", "drop"] = Field(
        "keep", description="rewrites that are their trajectory: the teacher finds it concise"
    )
    max_repeats: Count = Field(
        8, description="times that one run of 4 or more tokens may follow itself"
    )

    @model_validator(mode="after")
    def _possible(self) -> "Filter":
        if self.min_ratio > self.max_ratio:
            raise ValueError(
                f"min_ratio {self.min_ratio} is above max_ratio {self.max_ratio}, so that nothing "
                "could be kept; lower it"
            )
        return self


class Logits(Engine):
    context: Literal["problem", "concise", "rewriting"] | None = Field(
        None,
        description="what the scorer sees: the plain prompt, that with the request for brevity, or "
        "the rewriting prompt; null: as the method says",
    )
    cache: Literal["sparse", "hidden"] = Field(
        "sparse", description="log-probabilities on a support, or inputs of the teacher's head"
    )
    support: Literal["union", "teacher"] = Field(
        "union",
        description="candidates: the teacher's most probable ids with the student's, or not",
    )
    top_k: Count = Field(128, description="the teacher's most probable ids, candidates")
    student_top_k: Count = Field(128, description="the student's most probable ids, candidates")
    min_contribution: float = Field(
        0.001,
        ge=0,
        description="candidates that change a position's gradient by less join its tail: in nats "
        "times probability, or as a share of a divergence above 1 nat; support: teacher: less "
        "probable ones",
    )
    tail_buckets: Count = Field(16, description="outcomes of the tail: equal ranges of ids")

    @model_validator(mode="after")
    def _what_vllm_gives(self) -> "Logits":
        wanted = {"support": "teacher", "cache": "sparse", "tail_buckets": 1}
        for key, value in wanted.items():
            if self.engine == "vllm" and getattr(self, key) != value:
                raise ValueError(
                    f"engine: vllm gives the teacher's most probable ids and no others; set "
                    f"{key}: {value}"
                )
        return self


class Lora(Section):
    rank: Count = Field(16, description="of the adapters")
    alpha: float = Field(32.0, gt=0, description="adapters are scaled by alpha over rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the adapters, in training")
    targets: str | tuple[str, ...] = Field(
        "all-linear", description="modules that get an adapter: names, or all-linear"
    )


class Distill(Section):
    learning_rate: float = Field(gt=0, description="peak, in round 1")
    round_decay: float = Field(1.0, gt=0, le=1, description="factor for each further round")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="of the learning rate, after the warm-up"
    )
    warmup: Share = Field(0.05, description="share of the steps")
    budget: Literal["epochs", "steps", "tokens"] = Field(
        "epochs", description="what a round of training is measured in, the same for every method"
    )
    epochs: float = Field(1.0, gt=0, description="of budget: epochs")
    amount: Count | None = Field(
        None, description="of budget: steps, optimiser steps; tokens, trained completion tokens"
    )
    batch_size: Count = Field(32, description="trajectories per optimiser step, all processes")
    divergence: Divergence | None = Field(None, description="null: as the method says")
    beta: float = Field(0.5, gt=0, lt=1, description="weight of the teacher in jensen_shannon")
    forward_share: Share = Field(0.5, description="of forward KL in mix; the rest is reverse KL")
    tail: Literal["bucket", "truncated", "renormalised"] = Field(
        "bucket", description="truncated and renormalised are ablations, and wrong"
    )
    temperature: float = Field(
        1.0, gt=0, description="of both distributions; other than 1 needs cache: hidden"
    )
    merge_stop_ids: bool = Field(False, description="all stop ids are one outcome of the loss")
    loss: Literal["token_mean", "sequence_mean"] = Field(
        "token_mean", description="mean over tokens, or over trajectories of their means"
    )
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="of AdamW")
    max_gradient_norm: float = Field(1.0, gt=0, description="longer gradients are clipped")
    mixed_precision: Literal["no", "bf16"] = Field(
        "no", description="of forward and backward pass; weights stay float32"
    )
    lora: Lora | None = Field(
        None, description="train adapters, merged into the weights at the end"
    )
    min_kept: Count = Field(1, description="fewer kept trajectories stop the run before training")

    @model_validator(mode="after")
    def _amount(self) -> "Distill":
        if (self.budget == "epochs") != (self.amount is None):
            raise ValueError(
                f"budget: {self.budget} {'has no' if self.budget == 'epochs' else 'needs an'} "
                "amount; epochs are set by epochs, steps and tokens by amount"
            )
        return self


class Evaluate(Generation):
    temperature: float = Field(0.6, ge=0, description="0 is greedy")
    top_p: float = Field(0.95, gt=0, le=1, description="share of the mass to sample from; 1: off")
    top_k: int = Field(20, ge=0, description="most probable ids to sample from; 0: off")


class Report(Section):
    max_accuracy_drop: Share = Field(
        0.0, description="of the shipped round on the development split, below the base student"
    )


class Resources(Section):
    threads: Count = Field(1, description="processor threads of the job")
    memory_mb: Count = Field(4000, description="what a scheduler sets aside for the job")


class ModelResources(Resources):
    gpu: int = Field(0, ge=0, description="GPUs of the job")


class EngineResources(ModelResources):
    batch_size: Count = Field(
        64, description="sequences side by side; vLLM: max_num_seqs; server: requests"
    )
    rows_per_part: Count = Field(256, description="rows a kill can lose; no batch spans two parts")
    tensor_parallel_size: Count = Field(1, description="vLLM: GPUs that share one replica")
    data_parallel_size: Count = Field(1, description="vLLM: replicas of the model")
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="vLLM: its share of the GPU's memory; without one, of all"
    )


class GenerationResources(EngineResources):
    max_model_len: Count | None = Field(
        None, description="vLLM: longest prompt with its new tokens; null: the model's context"
    )
    prefix_caching: bool = Field(True, description="vLLM: a prompt's samples share its cache")
    server: str | None = Field(None, description="base URL, such as http://node:8000/v1")


class ScoringResources(EngineResources):
    batch_size: Count = Field(32, description="trajectories per forward pass; vLLM: max_num_seqs")
    chunk_size: Count = Field(1024, description="positions whose full logits exist at a time")


class DistillResources(ModelResources):
    micro_batch_size: Count = Field(32, description="trajectories per forward pass and process")
    num_processes: Count = Field(1, description="data-parallel processes, started by torchrun")
    chunk_size: Count = Field(1024, description="positions whose full logits exist at a time")
    gradient_checkpointing: bool = Field(False, description="less memory, one more forward pass")
    checkpoint_steps: Count = Field(50, description="optimiser steps that a kill can lose")
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = Field(
        "none", description="where training metrics go beside metrics.parquet"
    )


class AllResources(Section):
    models: ModelResources = ModelResources()
    problems: Resources = Resources()
    sample: GenerationResources = GenerationResources()
    compress: GenerationResources = GenerationResources()
    filter: Resources = Resources()
    logits: ScoringResources = ScoringResources()
    distill: DistillResources = DistillResources()
    evaluate: GenerationResources = GenerationResources()  # of the engine: the stage `answers`
    grading: Resources = Resources()  # of what the answers are graded by: the stage `evaluate`
    report: Resources = Resources()


class Custom(Section):
    """A row of the grid under a name of its own: a method, with other axes or other settings."""

    name: Name = Field(description="for methods, and of the folder of its results")
    like: str = Field(description="the method that it starts from")
    axes: dict[str, Any] = Field({}, description="axes of mpd/methods.py that differ")
    sample: dict[str, Any] = Field({}, description="keys of sample that differ")
    compress: dict[str, Any] = Field({}, description="keys of compress that differ")
    filter: dict[str, Any] = Field({}, description="keys of filter that differ")
    logits: dict[str, Any] = Field({}, description="keys of logits that differ")
    distill: dict[str, Any] = Field({}, description="keys of distill that differ")

    @model_validator(mode="after")
    def _known(self) -> "Custom":
        if self.name == "base":
            raise ValueError("name: base is the untrained student; take another")
        if self.like not in METHODS:
            raise ValueError(f"like: {self.like} is no method; there are {', '.join(METHODS)}")
        if self.name in METHODS and self.name != self.like:
            raise ValueError(f"name: {self.name} is another method than {self.like}; take another")
        unknown = sorted(set(self.axes) - set(Method.model_fields))
        if unknown:
            raise ValueError(
                f"axes: {unknown[0]} is no axis; there are {', '.join(Method.model_fields)}"
            )
        for section in SECTIONS:
            # Environment and resources are those of a stage, for all its branches.
            if "engine" in getattr(self, section):
                raise ValueError(f"{section}.engine is one for all rows; set it in {section}")
        if "trajectories" in self.sample:
            raise ValueError("sample.trajectories are those of all rows; set them in sample")
        return self


class Config(Section):
    experiment: Name = Field(description="names the folder below results/")
    methods: tuple[str, ...] = Field(
        ("mpd",), min_length=1, description="rows of mpd/methods.py, or of custom"
    )
    custom: tuple[Custom, ...] = Field((), description="rows of your own; they may reuse a name")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="one branch for each; of sampling and training"
    )
    rounds: Count = Field(2, description="of sampling, rewriting and training, one after another")
    store: Literal["reuse", "refresh"] = Field(
        "reuse", description="refresh: visited stages compute anew and compare"
    )
    models: Models
    chat: Chat = Chat()
    problems: Problems
    sample: Sample
    compress: Compress
    filter: Filter = Filter()
    logits: Logits = Logits()
    distill: Distill
    evaluate: Evaluate
    report: Report = Report()
    resources: AllResources = AllResources()

    @model_validator(mode="after")
    def _methods(self) -> "Config":
        known = [*METHODS, *(row.name for row in self.custom)]
        for name in self.methods:
            if name not in known:
                raise ValueError(f"methods: {name} is no method; there are {', '.join(known)}")
        if not any(self.method(name).trained for name in self.methods):
            raise ValueError("methods: none of these trains a student; add mpd")
        for row in self.custom:
            try:
                self.method(row.name)
                self.of(row.name)
            except ValidationError as error:
                reasons = "; ".join(_sentence(mistake) for mistake in error.errors())
                raise ValueError(f"custom row {row.name}: {reasons}") from None
        for name in self.methods:
            of, method = self.of(name), self.method(name)
            divergence = of.distill.divergence or method.divergence
            if of.logits.context == "rewriting" and method.rewriter == "none":
                raise ValueError(
                    f"logits.context: rewriting, but {name} has no rewriter; leave one of them out"
                )
            own = of.distill.temperature, of.distill.tail, of.logits.cache
            require_exact(divergence, *own)
            if method.scorer == "student" and of.logits.cache == "hidden":
                raise ValueError(
                    f"logits.cache: hidden holds the teacher's states, but of {name} the student "
                    "is the scorer; set cache: sparse, or leave the method out"
                )
            if method.sampler == "teacher" and of.sample.trajectories:
                raise ValueError(
                    f"sample.trajectories are a student's, but of {name} the teacher samples; "
                    "leave one of the two out"
                )
        return self

    def _row(self, name: str) -> Custom | None:
        return next((row for row in self.custom if row.name == name), None)

    def method(self, name: str) -> Method:
        """The row of the grid that a branch of this name has."""
        row = self._row(name)
        return METHODS[name] if row is None else method_of(row.like, row.axes)

    def of(self, name: str) -> "Config":
        """The configuration of one branch: this one, with what its custom row changes."""
        row = self._row(name)
        changes = {part: getattr(row, part) for part in SECTIONS if row and getattr(row, part)}
        if not changes:
            return self
        rows = [row.model_dump(include={"name", "like", "axes"}) for row in self.custom]
        raw = {**self.model_dump(), "custom": rows, "methods": (name,)}
        for part, values in changes.items():
            raw[part] = {**raw[part], **values}
        return Config.model_validate(raw)

    @model_validator(mode="after")
    def _engines_run(self) -> "Config":
        if self.logits.engine == "vllm" and self.distill.merge_stop_ids:
            raise ValueError(
                "distill.merge_stop_ids needs every stop id in the cache, which logits.engine: "
                "vllm does not give; set one of the two back"
            )
        for stage in ("sample", "compress", "logits", "evaluate"):
            engine, own = getattr(self, stage).engine, getattr(self.resources, stage)
            if engine == "server" and not own.server:
                raise ValueError(
                    f"{stage}.engine is server: set resources.{stage}.server to its base URL"
                )
            replicas = own.tensor_parallel_size * own.data_parallel_size
            if engine == "vllm" and own.gpu not in (0, replicas):
                raise ValueError(
                    f"resources.{stage}.gpu is {own.gpu}, but tensor_parallel_size times "
                    f"data_parallel_size is {replicas}; make them equal"
                )
        return self

    @field_validator("experiment")
    @classmethod
    def _not_the_store(cls, name: str) -> str:
        if name == "store":
            raise ValueError("results/store holds what was ever computed; take another name")
        return name

    @field_validator("custom")
    @classmethod
    def _different_names(cls, rows: tuple[Custom, ...]) -> tuple[Custom, ...]:
        names = [row.name for row in rows]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} names two rows; give one another name")
        return rows

    @field_validator("methods", "seeds")
    @classmethod
    def _different(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is given twice; remove one")
        return values


def parse_config(raw: Mapping[str, Any]) -> Config:
    """The validated configuration. Raises ValueError with one line for each mistake."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ValueError("\n".join(_sentence(mistake) for mistake in error.errors())) from None


def _sentence(mistake: Any) -> str:
    place = [str(step) for step in mistake["loc"]]
    # Behind models.<role> stands the source by which the kinds of models are told apart.
    keys = place[:2] + place[3:] if place[:1] == ["models"] else place
    where = ": ".join(["config", *([".".join(keys)] if keys else [])])
    if mistake["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], sorted(_keys(place[:-1])), 1)
        return f"{where}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if mistake["type"] == "missing":
        return f"{where}: this key is required"
    reason = mistake["msg"].removeprefix("Value error, ")
    found = mistake["input"]
    return f"{where}: {reason}" + ("" if isinstance(found, dict) else f", found {found!r}")


def _keys(place: list[str]) -> set[str]:
    """The keys allowed in the section at `place`."""
    node: Any = Config.model_json_schema()
    definitions = node["$defs"]
    for step in place:
        if "$ref" in node:
            node = definitions[node["$ref"].split("/")[-1]]
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][step]}
        elif step.isdigit():
            node = node["items"]
        else:
            node = node["properties"][step]
    if "$ref" in node:
        node = definitions[node["$ref"].split("/")[-1]]
    return set(node.get("properties", {}))
