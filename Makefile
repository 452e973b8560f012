# Two commands matter: `make book` and `make test`. They need Python 3.11 or newer, make and git, nothing else.
# PY=… uses an environment of your own (conda, say) in place of .venv; CORES=… limits how many cores are used;
# CHAPTERS="part/chapter …" runs these alone; ARITHMETIC=avx2 runs in another arithmetic, beside the book's results;
# OPTIONS="--executor slurm --jobs 50" goes to Snakemake.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
CORES ?= all
LOCK := requirements.lock

ifdef PY
ENVIRONMENT :=
else
PY := .venv/bin/python
ENVIRONMENT := .venv/installed
endif
UV := $(or $(shell command -v uv),.venv-uv/bin/uv)

BUILD = $(PY) book/_ext/bookmaker.py build --cores $(CORES) $(if $(CHAPTERS),--chapters "$(CHAPTERS)") \
  $(if $(ARITHMETIC),--arithmetic $(ARITHMETIC)) $(OPTIONS)

export PYTHONPATH := $(CURDIR)
export UV_PYTHON_DOWNLOADS := never
unexport PYTHONDONTWRITEBYTECODE  # compiled once, imported by every kernel and worker

.PHONY: help book judge draft preview full forecast epub pdf links test slow cluster bench mutants pair lock clean clean-runs

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

book: $(ENVIRONMENT)  ## run every chapter and build the pages in build/html
	@$(BUILD) --profile book

judge: $(ENVIRONMENT)  ## the same for a publisher: fails for a refuted claim that its chapter does not speak of
	@$(BUILD) --profile book --judge

draft: $(ENVIRONMENT)  ## the same with the draft's seeds, for writing
	@$(BUILD) --profile draft

preview: $(ENVIRONMENT)  ## the same with a seed or two and a few steps: minutes, not results
	@$(BUILD) --profile smoke

full: $(ENVIRONMENT)  ## the same with twice the seeds and longer training
	@$(BUILD) --profile full

forecast: $(ENVIRONMENT)  ## say how long the build would take on 1, 2, 4, 8 and 64 cores, by the times of the last one
	@$(PY) book/_ext/bookmaker.py forecast

epub: $(ENVIRONMENT)  ## the pages that were built last as one EPUB; needs Chromium
	@$(PY) book/_ext/bookmaker.py epub --log build/logs/editions.log

pdf: $(ENVIRONMENT)  ## the same as one PDF
	@$(PY) book/_ext/bookmaker.py pdf --log build/logs/editions.log

links: $(ENVIRONMENT)  ## ask for every address outside that these pages name
	@$(PY) book/_ext/bookmaker.py links --log build/logs/editions.log

test: $(ENVIRONMENT)  ## lint and test
	@$(PY) -m ruff check .; lint=$$?; \
	$(PY) -m pytest -q -n auto --dist worksteal -m "not slow" && exit $$lint

slow: $(ENVIRONMENT)  ## the tests that take long: every trap of the build, a fresh environment, the browser
	$(PY) -m pytest -q -n auto --dist worksteal -m slow

cluster: $(ENVIRONMENT) | $(UV)  ## add what Snakemake needs to run on SLURM or Kubernetes
	@$(UV) pip install --quiet --no-build-isolation --python $(PY) --constraint $(LOCK) --editable ".[cluster]"

bench: $(ENVIRONMENT)  ## images per second of the training loop
	$(PY) tests/bench.py

mutants: $(ENVIRONMENT)  ## break the code in every listed way: each time a test must go red
	@$(PY) tests/mutate.py

pair: $(ENVIRONMENT)  ## write each chapter's .ipynb from its .py
	@$(PY) book/_ext/bookmaker.py pair

lock: $(UV)  ## resolve requirements.lock anew from pyproject.toml
	$(UV) pip compile pyproject.toml --extra book --extra test --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header --upgrade --quiet -o $(LOCK)

clean:  ## remove what was built; the environment and the store of runs stay
	rm -rf .snakemake
	@test ! -d build || find build -mindepth 1 -maxdepth 1 ! -name runs -exec rm -rf {} +

clean-runs:  ## remove the store of runs: what was trained is trained again
	rm -rf build/runs

.venv/installed: $(LOCK) pyproject.toml | $(UV)
	@echo "Installing the environment from $(LOCK) into .venv"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --require-hashes --python .venv/bin/python $(LOCK)
	@$(UV) pip install --quiet --no-deps --no-build-isolation --python .venv/bin/python --editable .
	@touch $@

.venv-uv/bin/uv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found: install one, or name it with PYTHON=…"; exit 1; }
	@echo "Fetching uv into .venv-uv"
	@$(PYTHON) -m venv .venv-uv >/dev/null 2>&1 && .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv \
	  || { rm -rf .venv-uv; $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .venv-uv uv; } \
	  || { echo "uv could not be installed: it needs Python's venv or pip, and the network"; exit 1; }
