# make demo    the main job on the embedded store, from nothing
# make test    style, types and the whole test suite
# make soak    the promises under faults: minutes of real pilots that are killed, cut off, frozen, …
# make bench   benchmarks, each against a peer or a limit of this machine
# make docs    the documentation, as HTML in docs/_build/html

PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := .venv/bin
# The machine's own certificates: sites often have an authority of their own in front.
export UV_SYSTEM_CERTS ?= 1

.PHONY: help demo sync test lint soak bench docs clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "PiCaS needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

# The environments: what the demo needs, and what developing needs.
demo: $(filter .uv/bin/uv,$(UV))
	@$(UV) sync --quiet --frozen --inexact --no-default-groups
	@$(RUN)/picas demo

sync: $(filter .uv/bin/uv,$(UV))
	@sh tests/system-packages.sh
	@$(UV) sync --quiet --frozen --inexact

lint: sync
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy

# A file's tests stay on one worker, with what they share; the long ones come first.
test: lint
	$(RUN)/pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

soak: sync
	$(RUN)/python -m soak $(ARGS)

bench: sync
	@$(UV) sync --quiet --frozen --inexact --group bench
	$(RUN)/python -m benchmarks $(ARGS)

docs: $(filter .uv/bin/uv,$(UV))
	@$(UV) sync --quiet --frozen --inexact --group docs
	$(RUN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf .venv .uv docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
