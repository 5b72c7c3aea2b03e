# Everything runs in .venv, which `make venv` makes from pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test soak mutants venv lint docs format audit dist bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

run: venv ## the main job, a quick slice of it: search, evaluate, print Table 1
	$(BIN)/pairsearch reproduce --quick --data auto

# Many tests wait for leases or servers and leave a core idle, so there are more processes than cores. Files are taken in
# their order: pages that are typed, and faults, take longest and come early. What is compiled is kept, wherever that is
# forbidden too: else each process compiles all tests again.
test: venv ## the whole test suite
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

soak: venv ## the promise under many faults, crowds of workers, clusters, what make run and the tutorial print; some 25 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak -s tests/faults tests/engines tests/docs tests/search tests/benchmarks

SAMPLE ?= 200
SEED ?= 1
mutants: venv ## asks the suite whether it notices small bugs put into the service, a random sample of them; some hour
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants/hunt.py --sample $(SAMPLE) --seed $(SEED)

venv: $(STAMP) ## the environment alone

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pairsearch needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[all]'
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/pairsearch # for mypy
	# compiles the kernels, so that what comes next need not; without a database, in which b1 may have other data
	-$(BIN)/pairsearch doctor b1 --data digits --storage sqlite:///$(VENV)/none.db >/dev/null
	touch $(STAMP)

lint: venv ## ruff, mypy --strict and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: venv ## the documentation site, into docs/_build
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo open docs/_build/index.html

format: venv ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: venv ## known weaknesses of what is installed, by pip-audit; needs the network
	$(BIN)/python .ci/audit.py

dist: venv ## the wheel and the source archive, into dist/, checked
	rm -rf build dist
	$(BIN)/python -m build --quiet --outdir dist .
	rm -rf build
	$(BIN)/twine check --strict dist/*

bench: venv ## measure the training core, whole trials and the service; writes bench.json
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/core_hours.py
	$(BIN)/python benchmarks/service.py

clean: ## remove the environment and what tools left
	rm -rf $(VENV) build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
