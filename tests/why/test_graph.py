"""The drawing of a lineage: its boxes, lines and page, in texts and in a browser."""

import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from mpd.job.ancestry import ancestry
from mpd.why import __main__ as why
from mpd.why.boxes import boxes_of
from tests.lineage import write_experiment
from tests.offline import accessibility_findings, opened
from tests.report.test_page import EVIL, Parsed

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def folder(tmp_path):
    return write_experiment(tmp_path / "results/a")


def test_shards_are_one_box_and_rounds_follow_each_other(folder):
    boxes = boxes_of(folder, ancestry(folder))
    stages = ("sample", "compress", "filter", "logits", "student")
    assert [box.title for box in boxes] == [
        "models: student_seed_0",
        "models: teacher",
        "problems: train",
        *(f"mpd/seed_0/round_{number}: {stage}" for number in (1, 2) for stage in stages),
    ]
    samples = boxes[8]
    assert len(samples.artifacts) == 2
    sources = {box.title for box in samples.sources}
    assert sources == {"problems: train", "mpd/seed_0/round_1: student"}
    assert all(boxes.index(source) < boxes.index(box) for box in boxes for source in box.sources)


def test_a_box_of_links_names_the_first(folder):
    shutil.copytree(folder / "mpd/seed_0/round_1/sample", folder / "opd/seed_0/round_1/sample")
    boxes = {box.title: box for box in boxes_of(folder, ancestry(folder))}
    linked = boxes["opd/seed_0/round_1: sample"]
    assert linked.first is boxes["mpd/seed_0/round_1: sample"]
    assert linked.first.first is None


def test_the_drawing_is_whole_xml_with_a_line_for_each_source(folder, tmp_path, capsys):
    output = tmp_path / "drawings/lineage.svg"
    why.main(["--graph", str(folder), "--output", str(output)])
    assert capsys.readouterr().out == (
        f"lineage of 21 artifacts, 2 inputs of which are not there any more: {output}\n"
    )
    drawing = ElementTree.parse(output).getroot()
    boxes = boxes_of(folder, ancestry(folder))
    lines = [path.attrib for path in drawing.iter(f"{SVG}path")]
    assert {(line["data-from"], line["data-to"]) for line in lines} == {
        (str(boxes.index(source)), str(number))
        for number, box in enumerate(boxes)
        for source in box.sources
    }
    assert len(list(drawing.iter(f"{SVG}a"))) == len(boxes)


def test_nothing_loads_snakemake(folder, tmp_path):
    code = (
        "import sys; from mpd.why.__main__ import main\n"
        f"main(['--graph', {str(folder)!r}, '--output', {str(tmp_path / 'page.html')!r}])\n"
        "print({'snakemake', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_hostile_names_stay_texts(tmp_path):
    name = EVIL.replace("/", "|")
    folder = write_experiment(tmp_path / name, method="<b>x</b>".replace("/", "|"))
    for suffix in ("html", "svg"):
        output = tmp_path / f"lineage.{suffix}"
        why.main(["--graph", str(folder), "--output", str(output)])
    ElementTree.parse(tmp_path / "lineage.svg")
    parsed = Parsed((tmp_path / "lineage.html").read_text())
    tags = [tag[0] for tag in parsed.tags if isinstance(tag, tuple)]
    assert tags.count("script") == 1 and "b" not in tags and tags.count("h1") == 1
    assert not any("onload" in tag for tag in parsed.tags)
    assert name in "".join(parsed.texts)


def test_the_page_opens_offline_and_marks_what_belongs_to_a_box(folder, tmp_path):
    output = tmp_path / "page.html"
    why.main(["--graph", str(folder), "--output", str(output)])
    with opened(output) as page:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert accessibility_findings(page) == []
        page.locator("a[data-box='3']").focus()  # the samples of round 1
        marked = page.eval_on_selector_all(
            "a.on", "shapes => shapes.map(shape => shape.querySelector('title').textContent)"
        )
        stages = ("sample", "compress", "filter", "logits", "student")
        assert marked == [
            "models: student_seed_0",
            "problems: train",
            *(f"mpd/seed_0/round_{number}: {stage}" for number in (1, 2) for stage in stages),
        ]
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#b3"
        page.evaluate("document.activeElement.blur()")
        assert page.locator(".on").count() == 0
