"""The estimate of a run in one line, which Snakemake prints before its first job."""

from mpd.config import Config
from mpd.plan.cards import CARDS, local_card
from mpd.plan.estimate import Given, Plan, plan_of, world_of
from mpd.plan.times import SECTIONS

UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
DEFAULT = "h100"


def estimate(config: Config, gpus: int | None) -> str | None:
    """The line for a run with so many GPUs; None where no job asks for one, or nothing is known.

    `gpus` is None on a cluster, which has as many as jobs ask for, and of a kind that is not known
    here. Nothing is read but the sizes of models and problems.
    """
    if not any(getattr(config.resources, section).gpu for section in SECTIONS.values()):
        return None
    card = None if gpus is None else local_card()
    given = Given(card or CARDS[DEFAULT], max(gpus or 1, 1))
    try:
        plan = plan_of(world_of(config, given), given)
        return line_of(plan) if gpus is not None else cluster_line_of(plan)
    except Exception:  # whatever a model's files say, an estimate is no reason not to run
        return None


def line_of(plan: Plan) -> str:
    """A plan in one line."""
    text = (
        f"estimate on {plan.gpus} × {plan.card.name}: {plan.total('gpu_hours'):.1f} GPU hours, "
        f"{hours(plan.wall_seconds)} h, {scaled(plan.total('tokens'))} tokens, "
        f"{scaled(plan.total('disk'), 'B')} of disk"
    )
    sentences = "".join(f"; {sentence}" for sentence in plan.refusals)
    return f"{text} (python -m mpd.plan has the parts){sentences}"


def cluster_line_of(plan: Plan) -> str:
    """A plan in one line where neither card nor number of GPUs is known."""
    return (
        f"estimate: {plan.total('gpu_hours'):.1f} GPU hours if each is an {plan.card.name}, "
        f"{scaled(plan.total('tokens'))} tokens, {scaled(plan.total('disk'), 'B')} of disk "
        "(python -m mpd.plan --gpu NAME --gpus N has the parts)"
    )


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
