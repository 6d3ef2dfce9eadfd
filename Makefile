# Every target sets up what it needs: `make demo` in a fresh clone is enough.
#   PYTHON  the interpreter that .venv is made from
#   ARGS    overrides for demo, train and sweep, options for test:  make train ARGS="model=qwen05 optim.max_steps=100"
#   RUN     a run folder for evaluate and report:              make report RUN=outputs/<folder>
PYTHON ?= python3
ARGS ?=
RUN ?=
VENV := .venv

# Where test-slurm and test-gridengine keep their cluster.
CLUSTER ?= /tmp/arc_experiments_slurm

BIN := $(VENV)/bin
READY := $(VENV)/.ready
UNFINISHED := $(VENV)/.unfinished
# pip tells its progress to a person and is silent in a log.
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --prefer-binary \
  $(if $(MAKE_TERMOUT),,--quiet) --constraint constraints.txt
ARC := $(BIN)/python -m arc_experiments
# A process a core, at most four since each loads torch; neighbours stay together, since they share runs.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal
# A variable, since the commas would end an argument of $(or).
SEEDS := seed=1,2,3

.DEFAULT_GOAL := help
.PHONY: help setup demo smoke train sweep evaluate report check format test test-slow test-all test-gpu test-slurm test-gridengine test-containers clean need-run

help:  ## List the targets
	@echo "make <target> [ARGS=\"key=value ...\"] [RUN=<run folder>] [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv and install everything in it (about 2 minutes; again: nothing to do)
	@echo "$(VENV) is ready"

demo: $(READY)  ## Train, answer and show: the package's model on ARC-AGI-1, on any machine
	$(strip $(ARC) experiment=demo $(ARGS))

smoke: $(READY)  ## Everything once, in seconds
	$(ARC) experiment=smoke

train: $(READY)  ## Run the job on another composition: ARGS="data=re_arc model=qwen05"
	$(ARC) $(ARGS)

sweep: $(READY)  ## Run one job for every combination: ARGS="seed=1,2,3" (the default)
	$(ARC) --multirun $(or $(ARGS),$(SEEDS))

evaluate: need-run $(READY)  ## Score the model of a run folder again: RUN=<folder>
	$(ARC) job=evaluate "from_run=$(RUN)" $(ARGS)

report: need-run $(READY)  ## Write the report of a run folder again: RUN=<folder>
	$(BIN)/python -m arc_experiments.report "$(RUN)"

check: $(READY)  ## Formatting, lint, types, which room may use which, the Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir .ruff_cache/imports
	test ! -x $(BIN)/hadolint || $(BIN)/hadolint Dockerfile

format: $(READY)  ## Format, and repair what the linter can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(READY)  ## The tests, without the slow ones: ARGS="-k prompts" to choose
	$(PYTEST) -m "not slow and not gpu and not slurm and not gridengine and not containers" $(ARGS)

test-slow: $(READY)  ## The slow tests alone
	$(PYTEST) -m "slow and not gpu and not slurm and not gridengine and not containers" $(ARGS)

test-all: $(READY)  ## The tests, with the slow ones
	$(PYTEST) -m "not gpu and not slurm and not gridengine and not containers" $(ARGS)

test-gpu: $(READY)  ## The tests on a GPU, with its speed and memory
	$(BIN)/python -m pytest -m gpu tests/test_gpu.py $(ARGS)

test-slurm: $(READY)  ## The tests on a SLURM cluster, which is brought up on this machine (Debian, as root)
	tests/slurm/up.sh $(CLUSTER)
	. $(CLUSTER)/env.sh && $(BIN)/python -m pytest -m slurm $(ARGS); code=$$?; tests/slurm/down.sh $(CLUSTER); exit $$code

test-gridengine: $(READY)  ## The tests on a Grid Engine, which is brought up on this machine (Debian, as root)
	tests/gridengine/up.sh $(CLUSTER)
	. $(CLUSTER)/env.sh && $(BIN)/python -m pytest -m gridengine $(ARGS); code=$$?; tests/gridengine/down.sh $(CLUSTER); exit $$code

test-containers: $(READY)  ## The image of the Dockerfile, built without Docker (Debian, as root)
	$(BIN)/python -m pytest -m containers $(ARGS)

clean:  ## Remove caches and build leftovers; runs and .venv stay
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find arc_experiments tests -type d -name __pycache__ -prune -exec rm -rf {} +

need-run:
	@test -n "$(RUN)" || { echo "Name the run folder, as in: make $(firstword $(MAKECMDGOALS)) RUN=outputs/<folder>" >&2; exit 2; }

# An environment left half-made (Ctrl-C, no network, a full disk) is made anew: pip takes some torn packages for whole ones.
# Without a C compiler only the RE-ARC generators are left out, since one of their needs (pycosat) has no wheels.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "No $(PYTHON) here. Name Python 3.11 or newer: make setup PYTHON=<path>" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is %d.%d. Name another: make setup PYTHON=<path>" % sys.version_info[:2])'
	@if test -e $(UNFINISHED); then rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(UNFINISHED)
	@echo "Setting up $(VENV): about 2 minutes, more where torch comes with CUDA"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -c '$(HAS_COMPILER)'; then \
	  $(PIP_INSTALL) --editable '.[re-arc,dev]' && $(PIP_INSTALL) --no-deps reasoning-gym; \
	else \
	  echo "No C compiler with Python.h here: everything but the RE-ARC generators (data=re_arc) is installed." >&2; \
	  $(PIP_INSTALL) --editable '.[dev]'; \
	fi
	@rm $(UNFINISHED)
	@touch $@

HAS_COMPILER := import os, shutil, sys, sysconfig; \
  compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]; \
  header = os.path.join(sysconfig.get_path("include"), "Python.h"); \
  sys.exit(not (shutil.which(compiler) and os.path.exists(header)))
