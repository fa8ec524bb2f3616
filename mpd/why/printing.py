"""Findings printed to a terminal."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from mpd.why.findings import COMPUTE, FAIL, FRESH, LINK, REFRESH, WAIT, Finding

STYLES = {FAIL: "bold red", COMPUTE: "bold yellow", WAIT: "bold", LINK: "bold green"}
MAX_PLACES = 3  # of jobs of one kind that are named


def print_findings(console: Console, results: Sequence[Finding], targets: Sequence[str]) -> None:
    """Print what was asked for by name, then all that would be visited, by verdict."""
    for finding in results:
        for target in sorted(set(finding.job.outputs) & set(targets)):
            after = f" ({finding.after})" if finding.after else ""
            console.print(Text(f"{target}: ").append(_styled(finding.verdict)).append(after))
            for cause in finding.causes:
                console.print(f"  {cause}")
            if finding.verdict == FRESH and not finding.causes:
                console.print("  settings, version and content of its inputs are as in its note")
    rest = [finding for finding in results if not set(finding.job.outputs) & set(targets)]
    for verdict in (FAIL, COMPUTE, REFRESH, WAIT, LINK):
        section = [finding for finding in rest if finding.verdict == verdict]
        if section:
            firsts = dict.fromkeys(finding.after for finding in section if finding.after)
            heading = f": {_some(list(firsts))}" if firsts else ""
            console.print(Text.assemble(_styled(verdict), heading))
            _print_section(console, section)
    fresh = [finding for finding in rest if finding.verdict == FRESH]
    if fresh:
        count = f"{len(fresh)} job{'' if len(fresh) == 1 else 's'}"
        console.print(Text.assemble(_styled(FRESH), f": {count}"))
        _print_section(console, [finding for finding in fresh if finding.causes])


def _print_section(console: Console, section: Sequence[Finding]) -> None:
    """Jobs with causes of their own, equal ones together; then the number of those that follow."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    following: Counter[str] = Counter()
    for finding in section:
        stage, _, place = finding.job.name.partition(" ")
        if finding.causes:
            groups.setdefault((stage, finding.causes), []).append(place)
        else:
            following[stage] += 1
    for (stage, causes), places in groups.items():
        job = f"  {stage} {_some(places)}".rstrip()
        if len(causes) == 1:
            console.print(f"{job}: {causes[0]}")
            continue
        console.print(job)
        for cause in causes:
            console.print(f"    {cause}")
    if following:
        counts = [stage if n == 1 else f"{stage} ({n})" for stage, n in following.items()]
        console.print(f"  what follows: {', '.join(counts)}")


def _styled(verdict: str) -> Text:
    return Text(verdict, style=STYLES.get(verdict, "bold green"))


def _some(places: Sequence[str]) -> str:
    more = len(places) - MAX_PLACES
    return ", ".join([*places[:MAX_PLACES], *([f"{more} more"] if more > 0 else [])])
