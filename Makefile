# Every target makes its own .venv: Python 3.11, 3.12 or 3.13, make and git are all that a machine needs.
#   make demo PYTHON=/path/to/python     the interpreter, instead of the first below that works
#   make demo TORCH_INDEX=URL            an index for torch, instead of the one that tools/torch_index.py chooses

# constraints.txt was written with 3.11, so that comes first. Each is started once: pyenv's names exist for versions that
# are not active, and Debian's Python may lack ensurepip, without which there is no pip in a new environment.
USABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c '$(USABLE)' 2>/dev/null && echo $$name && break; done)
TORCH_INDEX ?= auto
BIN := .venv/bin
PIP_INSTALL = $(BIN)/pip install --quiet $$($(BIN)/python tools/torch_index.py '$(TORCH_INDEX)') -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test coverage mutants check mypy docs figures notebooks serve bench kernels lock clean test-stack dashboards

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "expected Python 3.11, 3.12 or 3.13 with venv and ensurepip, found none;" \
		"on Debian and Ubuntu: apt install python3-venv; or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/serve: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP_INSTALL) -e .
	touch $@

.venv/dev: .venv/serve
	$(PIP_INSTALL) -e '.[train,dev,openvino]'
	touch $@

demo: .venv/serve  ## install, start the service, send it real images, show what comes back
	$(BIN)/python examples/demo.py

test: .venv/dev  ## install and pass the tests
	$(BIN)/pytest

coverage: .venv/dev  ## pass the tests and report the branches of kdmri and service that they reach; TESTS=folder for a part
	$(BIN)/pytest --cov --cov-report=term:skip-covered $(TESTS)

mutants: .venv/dev  ## try a sample of wrong conditions, loops and signs: which do the tests notice? docs/reports/mutants.md
	$(BIN)/python -W ignore -m tools.mutants

check: .venv/dev  ## ruff, mypy, import-linter, the documentation without a warning
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs

docs: .venv/dev  ## build the documentation into site/
	$(BIN)/python -W ignore -m tools.site
	$(BIN)/python -m zensical build --strict --clean

mypy: .venv/dev  ## types alone
	mkdir -p .venv/import-names
	ln -sfn ../../service .venv/import-names/kdmri_service
	ln -sfn ../../training .venv/import-names/kdmri_training
	$(BIN)/mypy

figures:  ## draw docs/figures/*.svg anew; needs graphviz
	for file in docs/figures/*.dot; do dot -Tsvg $$file -o $${file%.dot}.svg; done

notebooks: .venv/dev  ## run the tutorials and write examples/*.ipynb anew
	$(BIN)/python -m tools.site.notebooks

serve: .venv/serve  ## run the service on 127.0.0.1:8000
	$(BIN)/kdmri serve

bench: .venv/dev  ## docs/reports/performance.md from a run of some minutes, on a machine that does nothing else
	$(BIN)/python -W ignore -m tools.benchmarks

kernels: .venv/dev  ## time what a request is made of, piece by piece
	$(BIN)/pytest tools/benchmarks/kernels.py --benchmark-group-by=func --benchmark-columns=min,median,iqr,rounds

test-stack: .venv/serve  ## build the image, run it with Prometheus, send it a file; skips without a Docker engine
	deploy/test_stack.sh

dashboards: .venv/dev  ## write deploy/grafana/dashboards/*.json anew
	$(BIN)/python -m tools.dashboards

lock: .venv/dev  ## write the installed versions to constraints.txt
	$(BIN)/pip freeze --exclude-editable | sed -E 's/\+cpu$$//' | grep -v -E '^(pip|wheel|nvidia-.*|triton)[ =]' > constraints.txt

clean:  ## remove the environment and what was written
	rm -rf .venv build site demo-out *.egg-info
