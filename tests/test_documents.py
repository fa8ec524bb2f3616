"""The documents: the README fits a newcomer, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.test_house import REPOSITORY

PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((REPOSITORY / "docs").glob("*.md"))


def prose_of(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> list[str]:
    """What the links of a page lead to, other sites apart."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose_of(page)))
    return [link for link in found if "://" not in link]


def anchors_of(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_fits_a_newcomer() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 200


def test_the_readme_leads_to_every_page() -> None:
    pages = {f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")}
    assert pages - set(links_of(REPOSITORY / "README.md")) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_begins_with_its_title_and_headings_stand_apart(page: Path) -> None:
    lines = prose_of(page).splitlines()
    titles = [number for number, line in enumerate(lines) if line.startswith("# ")]
    assert titles == [0]
    headings = [number for number, line in enumerate(lines) if line.startswith("#")]
    assert [lines[number] for number in headings[1:] if lines[number - 1]] == []
