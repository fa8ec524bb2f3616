"""The page of the lineage: the drawing, and every artifact with what it was made from."""

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from pathlib import Path

from mpd.job.ancestry import Made
from mpd.store.signs import one_line
from mpd.why.boxes import Box, boxes_of
from mpd.why.drawing import svg

MAX_LISTED = 20  # artifacts of a box that are listed
SHOWN = 12  # digits of a fingerprint

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { margin: 1.5rem; color: #1c1c1e; background: #fdfdfc }
@media (prefers-color-scheme: dark) {
  body { color: #e8e8ea; background: #17181b }
  a { color: #7db4ef }
}
.scroll { overflow-x: auto; border: 1px solid #8885; border-radius: 6px; padding: .5rem }
table { border-collapse: collapse; font-size: .85rem }
td, th { text-align: left; vertical-align: top; padding: .25rem .7rem .25rem 0 }
tr { border-top: 1px solid #8883 }
td { overflow-wrap: anywhere }
code { font-size: .95em }
tr:target { background: #c2410c22 }
body * { unicode-bidi: isolate }
"""
# A box under the pointer, or with the focus, shows what it was made from and what from it.
SCRIPT = """
"use strict";
const drawing = document.querySelector(".lineage");
const boxes = [...drawing.querySelectorAll("a")];
const lines = [...drawing.querySelectorAll("path")];
const sources = boxes.map(box => box.dataset.from.split(" ").filter(Boolean).map(Number));
const targets = boxes.map(() => []);
sources.forEach((each, to) => each.forEach(from => targets[from].push(to)));
function reached(start, next) {
  const seen = new Set([start]);
  for (const at of seen) next[at].forEach(to => seen.add(to));
  return seen;
}
function choose(at) {
  const before = reached(at, sources), after = reached(at, targets);
  boxes.forEach((box, to) => box.classList.toggle("on", before.has(to) || after.has(to)));
  lines.forEach(line => {
    const from = Number(line.dataset.from), to = Number(line.dataset.to);
    const isOn = [before, after].some(part => part.has(from) && part.has(to));
    line.classList.toggle("on", isOn);
  });
  drawing.classList.add("chosen");
}
function leave() {
  drawing.classList.remove("chosen");
  drawing.querySelectorAll(".on").forEach(shape => shape.classList.remove("on"));
}
boxes.forEach((box, at) => {
  box.addEventListener("pointerenter", () => choose(at));
  box.addEventListener("focus", () => choose(at));
  box.addEventListener("pointerleave", leave);
  box.addEventListener("blur", leave);
});
"""


def lineage_svg(experiment: Path, artifacts: Mapping[str, Made]) -> str:
    """The drawing alone."""
    return svg(boxes_of(experiment, artifacts), f"lineage of {experiment.resolve().name}")


def lineage_page(experiment: Path, artifacts: Mapping[str, Made]) -> str:
    """The page: one HTML text that opens offline."""
    boxes = boxes_of(experiment, artifacts)
    name = _text(experiment.resolve().name)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'"
    index_of = {id(box): index for index, box in enumerate(boxes)}
    rows = "\n".join(_row(box, index_of, experiment, artifacts) for box in boxes)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>MPD: lineage of {name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}; base-uri 'none'; form-action 'none'">
<style>{STYLE}</style>
<main>
<h1>Lineage of {name}</h1>
<p>What was made from what, as the notes of {len(artifacts):,} artifacts say. The files of a stage
in a round are one box; a dashed box has links to those of another one. Point at a box, or go to it
by Tab, to see all that it was made from and all that was made from it; press it for its files.</p>
<div class="scroll">
{svg(boxes, f"lineage of {experiment.resolve().name}")}</div>
<h2>Artifacts</h2>
<table>
<tr><th>box</th><th>made from</th><th>artifacts, by fingerprint</th></tr>
{rows}
</table>
</main>
<script>{SCRIPT}</script>
</html>
"""


def _row(
    box: Box, index_of: Mapping[int, int], experiment: Path, artifacts: Mapping[str, Made]
) -> str:
    """The files of a box, with links to the boxes that they were made from.

    `index_of` has the index of each box by its id.
    """
    sources = [
        f'<a href="#b{index_of[id(source)]}">{_text(source.title)}</a>' for source in box.sources
    ]
    for name, digest in dict.fromkeys(
        missing for key in box.artifacts for missing in artifacts[key].missing
    ):
        sources.append(f"{_text(name)} <code>{_text(digest[:SHOWN])}</code>, which is not there")
    listed = [
        f"<code>{key[:SHOWN]}</code> {_text(str(path.relative_to(experiment)))}, "
        f"{_text(artifacts[key].kind)} version {_text(str(artifacts[key].note['version']))}"
        for key, path in list(box.artifacts.items())[:MAX_LISTED]
    ]
    if (more := len(box.artifacts) - len(listed)) > 0:
        listed.append(f"and {more:,} more")
    return (
        f'<tr id="b{index_of[id(box)]}"><td>{_text(box.title)}</td>'
        f"<td>{'; '.join(sources) or 'nothing here'}</td><td>{'<br>'.join(listed)}</td></tr>"
    )


def _text(text: str) -> str:
    return escape(one_line(text), quote=True)
