"""Cards: what their data sheets say, and what share of it our stages have reached.

Operations of cards are those of mpd/job/flops.py.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from mpd.job.flops import peak_flops

GB, TB = 1e9, 1e12


@dataclass(frozen=True)
class Card:
    """A card: dense bf16 operations a second, bytes a second and bytes of its memory."""

    name: str
    flops: float
    bandwidth: float
    memory: float
    is_gpu: bool = True


def _card(name: str, device: str, bandwidth: float, memory: float) -> Card:
    flops = peak_flops(device)
    assert flops is not None, device
    return Card(name, flops, bandwidth, memory)


# Memory and its bandwidth by NVIDIA's data sheets of each product; the name of the device, in the
# second column, gives the operations.
CARDS = {
    card.name: card
    for card in (
        _card("h100", "NVIDIA H100 80GB HBM3", 3.35 * TB, 80 * GB),
        _card("h100-pcie", "NVIDIA H100 PCIe", 2.0 * TB, 80 * GB),
        _card("h100-nvl", "NVIDIA H100 NVL", 3.9 * TB, 94 * GB),
        _card("h200", "NVIDIA H200", 4.8 * TB, 141 * GB),
        _card("b200", "NVIDIA B200", 8.0 * TB, 180 * GB),
        _card("a100", "NVIDIA A100-SXM4-80GB", 2.04 * TB, 80 * GB),
        _card("a100-40gb", "NVIDIA A100-SXM4-40GB", 1.555 * TB, 40 * GB),
        _card("l40s", "NVIDIA L40S", 0.864 * TB, 48 * GB),
        _card("l4", "NVIDIA L4", 0.3 * TB, 24 * GB),
        _card("rtx-4090", "NVIDIA GeForce RTX 4090", 1.008 * TB, 24 * GB),
    )
}
# A job on a processor: products in float32 as measured on two cores of a cloud machine. Nothing is
# refused there: memory is what resources.<stage>.memory_mb reserves.
CPU = Card("cpu", 60e9, 20 * GB, float("inf"), is_gpu=False)

# Shares of a card's data sheet that were reached: a large product .79, a copy .88 (one H200,
# docs/performance.md); training .5 and scoring .48 of that product.
PRODUCT, COPY = 0.79, 0.88
TRAINING, SCORING = 0.5, 0.48
# Shares that are assumed: of the product where prompts and large batches bind, of a copy where
# weights and keys and values are read for each token.
GENERATION = {"vllm": 0.4, "transformers": 0.1, "server": 0.4}
READING = {"vllm": 0.6, "transformers": 0.1, "server": 0.6}
# Of a processor, for small models. While decoding, a layer takes 2 ms for a batch however small the
# model is, which is as long as these operations take.
CPU_SHARE, CPU_SHARES = 0.3, {"models": 0.45}
LAYER_FLOPS = 0.002 * CPU_SHARE * CPU.flops


def card_of(name: str) -> Card:
    """A card by its name. Raises ValueError where the table does not have it."""
    if name not in CARDS:
        raise ValueError(f"--gpu: {name} is not in the table; cards are {', '.join(CARDS)}")
    return CARDS[name]


def local_card(drivers: Path = Path("/proc/driver/nvidia/gpus")) -> Card | None:
    """The card of this machine, by the driver's files; None without one that the table has."""
    for path in sorted(drivers.glob("*/information")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        device = next((line for line in lines if line.startswith("Model:")), "")
        for name in sorted(CARDS, key=len, reverse=True):
            if is_card(CARDS[name], device):
                return CARDS[name]
    return None


def is_card(card: Card, device: str) -> bool:
    """Whether the name of a device, such as NVIDIA H100 80GB HBM3, is that of a card."""
    words = re.findall(r"[A-Z0-9]+", device.upper())  # an H200 is no GH200
    return all(word in words for word in card.name.upper().split("-"))
