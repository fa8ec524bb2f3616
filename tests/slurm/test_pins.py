"""The pins of the extra for Slurm agree with those of the project."""

import tomllib
from importlib.metadata import PackageNotFoundError, requires, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.workflow.project import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRA = [Requirement(line) for line in PROJECT["optional-dependencies"]["slurm"]]
PINS = {
    canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
    for pin in [*map(Requirement, PROJECT["dependencies"]), *EXTRA]
}


@pytest.mark.parametrize("name", [pin.name for pin in EXTRA])
def test_what_a_package_of_the_extra_asks_for_is_pinned_or_installed(name):
    try:
        installed = version(name)
    except PackageNotFoundError:
        pytest.skip("needs the extra: pip install -e '.[slurm]'")
    if installed != PINS[name]:
        pytest.skip(f"{name} {installed} is here in place of {PINS[name]}")
    for line in requires(name) or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        required = canonicalize_name(requirement.name)
        assert requirement.specifier.contains(PINS.get(required) or version(required)), line


def test_every_pin_is_exact():
    for pin in EXTRA:
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
