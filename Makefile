# make run      set up, then the main job: the embedded world, end to end
# make test     set up, then every check and test
# make install  set up alone
# make bench-env  what benchmarks compare with, in an environment of its own
# make prune    what in the store no output links to, or killed jobs left; DELETE=1 deletes it

PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install run test check prune bench-env

run: $(INSTALLED)
	snakemake --cores $(CORES)

test: check
	pytest -q -n 2 --dist loadfile

check: $(INSTALLED)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint
	mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml tests/files.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement tests/files.txt
	touch $(INSTALLED)

# The same torch and transformers; what TRL needs stays out of the environment of the project.
bench-env:
	test -d .venv-bench || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --requirement benchmarks/trl.txt

prune: $(INSTALLED)
	python -m mpd.store --store results/store $(if $(DELETE),--delete)
