"""Weights, gradients and optimiser state that are divided among the processes of a training.

Each process holds a part of every float32 weight. The weights of a layer are gathered for its
passes, in the dtype of the passes, and freed after them. The gradients of a micro-batch are summed
over the processes in float32, and each keeps its part (fully sharded data parallelism, arXiv
2304.11277).

`fully_shard` is called here and not by accelerate, whose plugin gathers the output head for its own
forward pass alone: the loss multiplies by its weights chunk by chunk, outside of one.
"""

from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from mpd.scoring.forward import Packed, completion_states
from mpd.training.job import TrainingJob
from mpd.training.student import empty_student, load_student

MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


def load_sharded(job: TrainingJob, device: torch.device, dtype: torch.dtype) -> Any:
    """The student of a job, of whose weights every process holds its part.

    The first process reads the folder into the memory of its machine, and sends one weight after
    another to the others, so that no GPU ever holds all of them. Every process calls this. Raises
    ValueError where the architecture is not supported.
    """
    source = load_student(job, "cpu") if distributed.get_rank() == 0 else None
    model = empty_student(job, device)
    for weight in model.parameters():
        if not weight.requires_grad:  # nothing is added to it that bfloat16 could lose
            weight.data = weight.data.to(dtype)
    student = model.get_base_model() if job.settings.lora else model
    _shard(student, device, dtype)
    _materialise(student, device)
    given = dict(source.named_parameters()) if source else {}
    for name, weight in model.named_parameters():
        assert isinstance(weight, DTensor)
        whole = torch.empty(weight.shape, dtype=weight.dtype, device=device)
        if source:
            whole.copy_(given[name].detach())
        distributed.broadcast(whole, 0)
        part = distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)
        weight.to_local().data.copy_(part.to_local())
    stored = dict(source.named_buffers()) if source else {}
    for name, buffer in model.named_buffers():  # some architectures keep values in these
        whole = buffer.detach().clone().contiguous()
        if source:
            whole.copy_(stored[name])
        distributed.broadcast(whole, 0)
        buffer.copy_(whole)
    return model.train()


def _shard(student: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Divide the weights of each layer, and then what is outside of layers, among processes."""
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    policy = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    for layer in student.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(student, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for module in student.modules():
        if hasattr(module, "set_gradient_divide_factor"):  # each position has its weight already
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    student.packed_states = _packed_states.__get__(student)
    register_fsdp_forward_method(student, "packed_states")


def _packed_states(self: Any, packed: Packed) -> torch.Tensor:
    return completion_states(self, packed)


def sharded_states(student: Any, packed: Packed) -> torch.Tensor:
    """Hidden states [N, H] as of `completion_states`; the head is then gathered for the loss."""
    return student.packed_states(packed)


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether the weights of a model are divided among processes."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def reshard(model: torch.nn.Module) -> None:
    """Forget the weights that a pass gathered, which the next one would use in place of newer."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _materialise(student: Any, device: torch.device) -> None:
    """Give the parts of this process memory, without values; buffers keep theirs."""
    buffers = [
        (module, name, buffer)
        for module in student.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    student.to_empty(device=device)
    for module, name, buffer in buffers:
        module._buffers[name] = buffer.to(device)


class ShardedWeights:
    """The weights of a sharded model that are trained, in float32, and their optimiser.

    `trained` are those that an optimiser updates.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        """Take a model of `load_sharded`."""
        named = model.named_parameters()
        self.named = {name: weight for name, weight in named if weight.requires_grad}
        self.trained = list(self.named.values())

    def backward(self, loss: torch.Tensor, is_last: bool) -> None:
        """Add the gradients of a loss, summed over processes; each process calls this."""
        loss.backward()

    def copy_to_model(self) -> None:
        """Do nothing: gathering rounds the weights for the passes."""

    def values(self) -> dict[str, torch.Tensor]:
        """The trained weights on the CPU, in the first process; the others get none.

        Every process calls this.
        """
        values = {}
        for name, weight in self.named.items():
            whole = weight.detach().full_tensor()  # type: ignore[attr-defined]
            if distributed.get_rank() == 0:
                values[name] = whole.cpu()
        return values

    def tensors(self, optimizer: Any, num_steps: int) -> dict[str, torch.Tensor]:
        """Trained weights and moments of AdamW by name, each process's parts, to save or load.

        Moments that the optimiser does not have yet begin as those after `num_steps` steps.
        """
        tensors = {}
        for name, weight in self.named.items():
            state = optimizer.state[weight]
            if not state:
                is_fused = optimizer.param_groups[0]["fused"]
                step = torch.tensor(float(num_steps), device=weight.device if is_fused else "cpu")
                moments = {moment: torch.zeros_like(weight.detach()) for moment in MOMENTS}
                state |= {"step": step, **moments}
            tensors[f"weight.{name}"] = weight.detach()
            tensors |= {f"{moment}.{name}": state[moment] for moment in MOMENTS}
        return tensors
