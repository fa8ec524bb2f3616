"""Boxes and the lines between them as SVG: rounds below each other, stages from left to right."""

from collections.abc import Sequence
from html import escape

from mpd.store.signs import SIGNS, one_line
from mpd.why.boxes import COLUMNS, MODELS, PROBLEMS, REPORT, Box

WIDTH, HEIGHT = 112, 34  # of a box
STEP_X, STEP_Y = 146, 84
LEFT, TOP = 176, 20  # room for the names of rows; above the first row
MAX_NAME = 17  # characters of a box's name that fit
MAX_ROW = 26

STYLE = """
.lineage { --ink: #1c1c1e; --faint: #6a6a72; --box: #eef2f7; --edge: #8796a8; --on: #c2410c;
  font: 12px system-ui, sans-serif }
@media (prefers-color-scheme: dark) {
  .lineage { --ink: #e8e8ea; --faint: #a0a0aa; --box: #252b33; --edge: #66788c; --on: #fb923c }
}
.lineage text { fill: var(--ink) }
.lineage .row, .lineage .count { fill: var(--faint) }
.lineage .count { font-size: 10px }
.lineage rect { fill: var(--box); stroke: var(--edge) }
.lineage .linked rect { stroke-dasharray: 4 3; fill: none }
.lineage path { fill: none; stroke: var(--edge); opacity: .45 }
.lineage.chosen path, .lineage.chosen a { opacity: .1 }
.lineage.chosen a.on { opacity: 1 }
.lineage.chosen path.on { opacity: 1; stroke: var(--on); stroke-width: 1.6 }
.lineage a.on rect, .lineage a:focus-visible rect { stroke: var(--on); stroke-width: 2 }
.lineage a { outline: 0 }
"""


def positions(boxes: Sequence[Box]) -> dict[int, tuple[float, float]]:
    """The upper left corner of each box, by its index."""
    rows = list(dict.fromkeys(box.row for box in boxes))
    corners: dict[int, tuple[float, float]] = {}
    next_column = dict.fromkeys(rows, 0)
    for index, box in enumerate(boxes):
        is_round = box.row not in (MODELS, PROBLEMS, REPORT)
        column = next_column[box.row]
        if is_round and box.name in COLUMNS:
            column = COLUMNS.index(box.name)
        next_column[box.row] = column + 1
        corners[index] = (LEFT + column * STEP_X, TOP + rows.index(box.row) * STEP_Y)
    return corners


def svg(boxes: Sequence[Box], label: str) -> str:
    """The drawing. Each box is a link to #b and its index, and has its sources in data-from."""
    corners = positions(boxes)
    index_of = {id(box): index for index, box in enumerate(boxes)}
    width = max(x for x, _ in corners.values()) + WIDTH + 20
    height = max(y for _, y in corners.values()) + HEIGHT + 20
    lines, shapes = [], []
    for index, box in enumerate(boxes):
        sources = [index_of[id(source)] for source in box.sources]
        for source in sources:
            line = _line(corners[source], corners[index])
            lines.append(f'<path data-from="{source}" data-to="{index}" d="{line}"/>')
        shapes.append(_shape(index, box, corners[index], sources))
    names: dict[str, float] = {}
    for index, box in enumerate(boxes):
        names.setdefault(box.row, corners[index][1])
    rows = [
        f'<text class="row" x="8" y="{y + 21:.0f}"><title>{_text(row, 200)}</title>'
        f"{_text(row, MAX_ROW)}</text>"
        for row, y in names.items()
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lineage" role="group" '
        f'aria-label="{_text(label, 200)}" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">\n<style>{STYLE}</style>\n'
        + "\n".join([*lines, *rows, *shapes])
        + "\n</svg>\n"
    )


def _shape(index: int, box: Box, corner: tuple[float, float], sources: Sequence[int]) -> str:
    x, y = corner
    count = len(box.artifacts)
    below = f"links to {box.first.row}" if box.first else f"{count} artifacts" if count > 1 else ""
    lines = [(_text(box.name, MAX_NAME), 15 if below else 21, "")]
    lines += [(_text(below, 2 + MAX_NAME), 28, "count")] if below else []
    texts = "".join(
        f'<text class="{kind}" x="{x + 8:.0f}" y="{y + down:.0f}">{text}</text>'
        for text, down, kind in lines
    )
    kind = "linked" if box.first else "made"
    return (
        f'<a href="#b{index}" class="{kind}" data-box="{index}" '
        f'data-from="{" ".join(map(str, sources))}"><title>{_text(box.title, 200)}</title>'
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>{texts}</a>'
    )


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve from one box to another: straight to a neighbour, over or between the others."""
    (x, y), (to_x, to_y) = start, end
    if y == to_y:
        if 0 < to_x - x <= STEP_X:
            return f"M{x + WIDTH:.0f} {y + HEIGHT / 2:.0f}H{to_x:.0f}"
        lift = y - 12 - 4 * abs(to_x - x) / STEP_X
        start_x, end_x = x + WIDTH * 0.7, to_x + WIDTH * 0.3
        return (
            f"M{start_x:.0f} {y:.0f}C{start_x:.0f} {lift:.0f} "
            f"{end_x:.0f} {lift:.0f} {end_x:.0f} {y:.0f}"
        )
    down = to_y > y
    from_y, into_y = (y + HEIGHT, to_y) if down else (y, to_y + HEIGHT)
    bend = 30 if down else -30
    start_x, end_x = x + WIDTH / 2, to_x + WIDTH / 2
    return (
        f"M{start_x:.0f} {from_y:.0f}C{start_x:.0f} {from_y + bend:.0f} "
        f"{end_x:.0f} {into_y - bend:.0f} {end_x:.0f} {into_y:.0f}"
    )


def _text(text: str, limit: int) -> str:
    """A text as XML, shortened in its middle; control characters become signs."""
    shown = one_line(text).replace("\t", SIGNS["\t"])
    if len(shown) > limit:
        half = (limit - 1) // 2
        shown = f"{shown[:half]}…{shown[-half:]}"
    return escape(shown, quote=True)
