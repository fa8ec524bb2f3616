# make run      set up, then the main job: the embedded world, end to end
# make test     set up, then every check and test
# make install  set up alone
# make prune    what in the store no output links to, or killed jobs left; DELETE=1 deletes it

PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install run test check prune

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

$(INSTALLED): pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(INSTALLED)

prune: $(INSTALLED)
	python -m mpd.store --store results/store $(if $(DELETE),--delete)
