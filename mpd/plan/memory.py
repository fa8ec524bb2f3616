"""Peak memory of a job of each section, and what to change where a card has less."""

from dataclasses import dataclass

from mpd.config.branches import Branch
from mpd.config.methods import WITHOUT_SCORES
from mpd.config.resources import DistillResources
from mpd.job.gpu_memory import CHUNK_SIZES, DENSE_CHUNK_SIZE, RESERVE, head_bytes
from mpd.plan.amounts import World
from mpd.plan.cards import GB, Card
from mpd.plan.shapes import Model

RUNTIME = 0.5 * GB  # of a process with torch, or of its context on a GPU
SCORED_LOGIT_BYTES = 48  # two models' logits, exponentials and candidates; fitted to one H200
PROCESSES = ("distill", "logits", "sample", "compress", "evaluate")


@dataclass(frozen=True)
class Peak:
    """The memory of a GPU that a job of a section needs at least, and what it takes if it can.

    `key` is the setting to change where it does not fit, `advice` how.
    """

    section: str
    needed: float
    taken: float
    key: str
    advice: str
    parts: str


def peaks(world: World, card: Card) -> list[Peak]:
    """The peak of each section whose jobs run a model: the largest over the methods."""
    branches = [world.config.branches[name] for name in world.config.trained_methods]
    jobs = [_generation(world, "evaluate", world.student, card)]
    for branch in branches:
        jobs.append(_training(world, branch, card))
        jobs.append(_scoring(world, branch, card))
        sampler = world.teacher if branch.method.sampler == "teacher" else world.student
        jobs.append(_generation(world, "sample", sampler, card))
        if branch.method.rewriter == "teacher":
            jobs.append(_generation(world, "compress", world.teacher, card))
    largest: dict[str, Peak] = {}
    for peak in sorted(jobs, key=lambda peak: (PROCESSES.index(peak.section), peak.needed)):
        largest[peak.section] = peak
    return list(largest.values())


def refusals(world: World, card: Card) -> list[str]:
    """One sentence for each section whose jobs cannot fit, with the key to change."""
    found = []
    for peak in peaks(world, card):
        if getattr(world.config.resources, peak.section).gpu and peak.needed > _usable(card):
            found.append(
                f"{peak.section} needs {peak.needed / GB:.1f} GB ({peak.parts}), and a {card.name} "
                f"has {_usable(card) / GB:.1f} GB to use: change {peak.key}: {peak.advice}"
            )
    return found


def _usable(card: Card) -> float:
    return card.memory * (1 - RESERVE)


def _summed(sizes: dict[str, float]) -> tuple[float, str]:
    """The sum of parts, and as words the parts that matter."""
    words = ", ".join(f"{name} {size / GB:.1f}" for name, size in sizes.items() if size > 0.05 * GB)
    return sum(sizes.values()), words or "less than 0.1"


def _generation(world: World, section: str, model: Model, card: Card) -> Peak:
    """Weights, and keys and values: of the whole batch, or with vLLM of one sequence at least."""
    config, resources = world.config, getattr(world.config.resources, section)
    settings = getattr(config, section)
    is_vllm, is_server = settings.engine == "vllm", settings.engine == "server"
    prompt = world.lengths.prompt
    if section == "compress":
        prompt += config.sample.max_new_tokens
    length = resources.max_model_len or prompt + settings.max_new_tokens
    sequences = 1 if is_vllm else resources.batch_size
    shards = resources.tensor_parallel_size if is_vllm else 1
    role = "teacher" if model is world.teacher else "student"
    weights = model.parameters * world.weight_bytes / shards
    keys = sequences * length * model.key_value_width * world.weight_bytes / shards
    needed, parts = _summed({"runtime": RUNTIME, "weights": weights, "keys and values": keys})
    if is_server:
        needed = 0.0
    taken = max(needed, resources.gpu_memory_utilization * card.memory) if is_vllm else needed
    if weights > _usable(card) / 2 and is_vllm:
        key = f"resources.{section}.tensor_parallel_size"
        advice = "GPUs that share one model, with as many in gpu"
    elif weights > _usable(card) / 2:
        key, advice = _smaller_weights(world, role, section)
    elif is_vllm:
        key, advice = f"resources.{section}.max_model_len", "the longest prompt with its completion"
    else:
        key, advice = f"resources.{section}.batch_size", "fewer sequences side by side"
    return Peak(section, needed, taken, key, advice, parts)


def _smaller_weights(world: World, role: str, section: str) -> tuple[str, str]:
    if world.config.models.dtype == "float32":
        return "models.dtype", "bfloat16 halves the weights"
    if section == "logits":
        return "resources.logits.gpu", (
            f"more GPUs, which share the layers of the {role}; or take a smaller models.{role}"
        )
    return f"{section}.engine", (
        f"vllm splits the model over resources.{section}.tensor_parallel_size GPUs; or take a "
        f"smaller models.{role}"
    )


def _scoring(world: World, branch: Branch, card: Card) -> Peak:
    """The weights of both models, the logits of a chunk, and the activations of a pass."""
    resources = world.config.resources.logits
    scorer = world.scorer(branch.method.scorer)
    role = "teacher" if scorer is world.teacher else "student"
    if branch.logits.engine == "vllm":
        shards = resources.tensor_parallel_size
        weights = scorer.parameters * world.weight_bytes / shards
        needed, parts = _summed({"runtime": RUNTIME, "weights": weights})
        taken = max(needed, resources.gpu_memory_utilization * card.memory)
        key, advice = "resources.logits.tensor_parallel_size", f"GPUs that share the {role}"
        return Peak("logits", needed, taken, key, advice, parts)
    split = max(resources.gpu, 1)  # the scorer's layers are divided among the GPUs of the job
    weights = (scorer.parameters / split + world.student.parameters) * world.weight_bytes
    chunk_size = resources.chunk_size or CHUNK_SIZES["cuda" if card.is_gpu else "cpu"]
    logits = chunk_size * world.student.shape.vocab_size * SCORED_LOGIT_BYTES
    widths = 4 * scorer.shape.hidden_size + 3 * scorer.intermediate_size
    states = resources.batch_tokens * widths * world.weight_bytes
    sizes = {"runtime": RUNTIME, "weights": weights, "logits": logits, "states": states}
    needed, parts = _summed(sizes)
    if weights > _usable(card) / 2:
        return Peak("logits", needed, needed, *_smaller_weights(world, role, "logits"), parts)
    if logits > states:
        key, advice = "resources.logits.chunk_size", f"fewer than {chunk_size} positions at a time"
    else:
        key, advice = "resources.logits.batch_tokens", "fewer tokens in a pass"
    return Peak("logits", needed, needed, key, advice, parts)


def state_bytes(model: Model, branch: Branch) -> float:
    """Bytes of weights, gradients and both moments of AdamW.

    All weights: 16 bytes each in float32, and 2 more for the copy that computes in bfloat16. With
    adapters, the model's weights alone, and 18 for each of those of the adapters.
    """
    is_bf16 = branch.distill.mixed_precision == "bf16"
    if branch.distill.lora is None:
        return model.parameters * (18.0 if is_bf16 else 16.0)
    shape = model.shape
    queries, keys = shape.num_heads * shape.head_size, model.num_key_value_heads * shape.head_size
    sides = 2 * (shape.hidden_size + queries) + 2 * (shape.hidden_size + keys)
    sides += 3 * (shape.hidden_size + model.intermediate_size)
    adapters = branch.distill.lora.rank * sides * len(shape.windows)
    return model.parameters * (2.0 if is_bf16 else 4.0) + 18.0 * adapters


def parts_of(resources: DistillResources) -> int:
    """How many processes share the weights of a student."""
    is_sharded = resources.sharding == "full"
    return resources.num_processes * resources.nodes if is_sharded else 1


def gathered_bytes(model: Model) -> float:
    """Bytes of what each process holds beside its part: embeddings and head, and two layers."""
    ends = model.parameters - model.shape.matrices
    return 2.0 * ends + 2 * 2.0 * model.shape.matrices / len(model.shape.windows)


def _training(world: World, branch: Branch, card: Card) -> Peak:
    """States, the loss of a chunk, and activations: at least those of layers recomputed."""
    resources, student = world.config.resources.distill, world.student
    is_dense = branch.logits.cache == "hidden" and branch.method.divergence not in WITHOUT_SCORES
    default = DENSE_CHUNK_SIZE if is_dense else CHUNK_SIZES["cuda" if card.is_gpu else "cpu"]
    chunk_size = resources.chunk_size or default
    width = 2 if branch.distill.mixed_precision == "bf16" else 4
    limit = (
        branch.compress if branch.method.rewriter == "teacher" else branch.sample
    ).max_new_tokens
    longest = world.lengths.prompt + limit
    tokens = max(min(resources.micro_batch_tokens, resources.micro_batch_size * longest), longest)
    layers, layer = len(student.shape.windows), student.layer_width * width
    state = student.shape.hidden_size * width
    stored = tokens * layer * (layers + 2)
    least = stored
    if resources.gradient_checkpointing is True or (
        resources.gradient_checkpointing == "auto" and card.is_gpu
    ):
        least = tokens * (layers * state + 3 * layer)
    sizes = {
        "runtime": RUNTIME,
        "weights, gradients and optimiser": state_bytes(student, branch) / parts_of(resources),
        "gathered weights": gathered_bytes(student) if parts_of(resources) > 1 else 0.0,
        "loss": head_bytes(
            student.shape.vocab_size, student.shape.hidden_size, chunk_size, is_dense
        ),
        "activations": least,
    }
    needed, parts = _summed(sizes)
    most = needed - least + (least if resources.gradient_checkpointing is True else stored)
    taken = max(needed, min(most, _usable(card)))
    key, advice = _lighter(sizes, branch, resources, tokens, longest, card)
    return Peak("distill", needed, taken, key, advice, parts)


def _lighter(
    sizes: dict[str, float],
    branch: Branch,
    resources: DistillResources,
    tokens: int,
    longest: int,
    card: Card,
) -> tuple[str, str]:
    """The setting whose change helps most, and how."""
    states = sizes["weights, gradients and optimiser"]
    if states > 0.9 * _usable(card) and branch.distill.lora is None:
        return "distill.lora", (
            "adapters need no gradients and moments of the weights; or resources.distill: "
            "sharding: full divides these among num_processes"
        )
    if branch.distill.lora is not None and states > _usable(card) / 2:
        if branch.distill.mixed_precision != "bf16":
            return "distill.mixed_precision", "bf16 halves the frozen weights"
        return "models.student", "a smaller one"
    if resources.gradient_checkpointing is False and sizes["activations"] > sizes["loss"]:
        return "resources.distill.gradient_checkpointing", "auto recomputes layers"
    if sizes["activations"] > sizes["loss"] and tokens > longest:
        return "resources.distill.micro_batch_tokens", f"fewer than {tokens} tokens in a pass"
    if sizes["activations"] > sizes["loss"] and branch.distill.mixed_precision == "no":
        return "distill.mixed_precision", "bf16 halves the activations"
    return "resources.distill.chunk_size", "fewer positions whose logits are in memory at a time"
