# Two commands: `make demo` shows a federated run and its fairness curves, `make test` runs the tests.
# Each makes .venv where there is none and installs with the tested versions of constraints.txt.
PYTHON ?= python3
BENCH_PYTHON ?= python3.12
BIN := .venv/bin

.PHONY: demo test lint bench bench-quick stress results-baselines results-fedd2s results-data-free results-objectives results-robust clean

demo: .venv/installed
	$(BIN)/fedkd run -m method=fedd2s_robust,fedavg_ft,fedavg,local clients=20 partition=dirichlet partition.alpha=0.3 model.width=8 \
		rounds=12 evaluate_every=3 out=runs/demo

test: .venv/installed lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Ten to twenty minutes: whole rounds, messages, populations and start-up, against others; docs/results/speed.md.
bench: .venv/installed .bench-venv/installed
	$(BIN)/python -m benchmarks.speed

# Three minutes on the MLP; the last line is `bare R stock S`, speeds relative to both, higher is faster.
bench-quick: .venv/installed
	$(BIN)/python -m benchmarks.speed --quick

# BlazeFL wants Python 3.12 and an environment of its own; without either its row says so.
.bench-venv/installed:
	-$(BENCH_PYTHON) -m venv .bench-venv && .bench-venv/bin/python -m pip install --quiet blazefl==2.0.3 numpy tqdm \
		&& touch $@

stress: .venv/installed
	$(BIN)/python -m benchmarks.stress --write

results-baselines: .venv/installed
	$(BIN)/python -m benchmarks.baselines

results-robust: .venv/installed
	$(BIN)/python -m benchmarks.robust

results-objectives: .venv/installed
	$(BIN)/python -m benchmarks.objectives

results-fedd2s: .venv/installed
	$(BIN)/python -m benchmarks.fedd2s

results-data-free: .venv/installed
	$(BIN)/python -m benchmarks.data_free

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv .bench-venv runs
