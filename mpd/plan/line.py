"""The estimate of a run in one line, which Snakemake prints before its first job."""

from mpd.config import Config
from mpd.plan.cards import CARDS, local_card
from mpd.plan.estimate import Given, Plan, plan_of, world_of
from mpd.plan.times import SECTIONS

UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
DEFAULT = "h100"


def estimate(config: Config, gpus: int) -> str | None:
    """The line for a run with so many GPUs; None where no job asks for one, or nothing is known.

    Nothing is read but the sizes of models and problems.
    """
    world = None
    if not any(getattr(config.resources, section).gpu for section in SECTIONS.values()):
        return None
    card = local_card() or CARDS[DEFAULT]
    given = Given(card, max(gpus, 1))
    try:
        world = world_of(config, given)
    except ValueError:
        return None
    plan = plan_of(world, given)
    return line_of(plan)


def line_of(plan: Plan) -> str:
    """A plan in one line."""
    text = (
        f"estimate on {plan.gpus} × {plan.card.name}: {plan.total('gpu_hours'):.1f} GPU hours, "
        f"{hours(plan.total('wall_seconds'))} h, {scaled(plan.total('tokens'))} tokens, "
        f"{scaled(plan.total('disk'), 'B')} of disk"
    )
    sentences = "".join(f"; {sentence}" for sentence in plan.refusals)
    return f"{text} (python -m mpd.plan has the parts){sentences}"


def scaled(number: float, unit: str = "") -> str:
    """A number in thousands, millions and so on; empty for 0."""
    if not number:
        return ""
    for size, letter in UNITS:
        if number >= size:
            return f"{number / size:.3g} {letter}{unit}"
    return f"{number:.3g} {unit}".rstrip()


def hours(seconds: float) -> str:
    """Seconds as hours, with as many digits as they deserve."""
    return f"{seconds / 3600:.2f}" if seconds < 36_000 else f"{seconds / 3600:.0f}"
