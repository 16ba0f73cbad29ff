# Two commands: `make demo` shows a federated run and its fairness curves, `make test` runs the tests.
# Each makes .venv where there is none and installs with the tested versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench bench-quick stress results-baselines results-fedd2s clean

demo: .venv/installed
	$(BIN)/fedkd run -m method=fedavg_ft,fedavg,local clients=20 partition=dirichlet partition.alpha=0.3 model.width=16 \
		rounds=12 evaluate_every=3 out=runs/demo

test: .venv/installed lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

stress: .venv/installed
	$(BIN)/python -m benchmarks.stress

results-baselines: .venv/installed
	$(BIN)/python -m benchmarks.baselines

results-fedd2s: .venv/installed
	$(BIN)/python -m benchmarks.fedd2s

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv runs
