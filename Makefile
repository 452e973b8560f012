# Two commands matter: `make book` and `make test`. They need Python 3.11 or newer, make and git, nothing else.
# PY=… uses an environment of your own (conda, say) in place of .venv; CORES=… limits how many cores are used.

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

ifdef BOOK_DATA
export BOOK_DATA := $(abspath $(BOOK_DATA))
endif
export PYTHONPATH := $(CURDIR)
export UV_PYTHON_DOWNLOADS := never
unexport PYTHONDONTWRITEBYTECODE  # compiled once, imported by every kernel and worker

.PHONY: help book preview full test slow bench pair lock clean

help:  ## say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

book: $(ENVIRONMENT)  ## run every chapter, five seeds, and build the pages in build/html
	@$(PY) book/_ext/bookmaker.py build --profile book --cores $(CORES)

preview: $(ENVIRONMENT)  ## the same with a seed or two and a few steps: minutes, not results
	@$(PY) book/_ext/bookmaker.py build --profile smoke --cores $(CORES)

full: $(ENVIRONMENT)  ## the same with ten seeds and longer training
	@$(PY) book/_ext/bookmaker.py build --profile full --cores $(CORES)

test: $(ENVIRONMENT)  ## lint and test
	@$(PY) -m ruff check .; lint=$$?; \
	$(PY) -m pytest -q -n auto --dist worksteal -m "not slow" && exit $$lint

slow: $(ENVIRONMENT)  ## the tests that take long: every trap of the build, a fresh environment, the browser
	$(PY) -m pytest -q -n auto --dist worksteal -m slow

bench: $(ENVIRONMENT)  ## images per second of the training loop
	$(PY) tests/bench.py

pair: $(ENVIRONMENT)  ## write each chapter's .ipynb from its .py
	@$(PY) book/_ext/bookmaker.py pair

lock: $(UV)  ## resolve requirements.lock anew from pyproject.toml
	$(UV) pip compile pyproject.toml --extra book --extra test --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header --upgrade --quiet -o $(LOCK)

clean:  ## remove what was built; the environment stays
	rm -rf build .snakemake

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
