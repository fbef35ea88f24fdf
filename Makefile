# Every target makes its own .venv: Python 3.11, make and git are all that a machine needs.
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu    the CPU build of torch, 200 MB instead of 3 GB
PYTHON ?= python3.11
TORCH_INDEX ?=
BIN := .venv/bin
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help demo test check mypy docs figures notebooks serve bench kernels lock clean test-stack dashboards

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/serve: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(INDEX) -c constraints.txt -e .
	touch $@

.venv/dev: .venv/serve
	$(BIN)/pip install --quiet $(INDEX) -c constraints.txt -e '.[train,dev,openvino]'
	touch $@

demo: .venv/serve  ## install, start the service, send it real images, show what comes back
	$(BIN)/python examples/demo.py

test: .venv/dev  ## install and pass the tests
	$(BIN)/pytest

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

bench: .venv/dev  ## docs/performance.md from a run of some minutes, on a machine that does nothing else
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
