"""The tables of docs/results/baselines.md, from scratch: `make results-baselines`."""

from benchmarks.studies import FASHION, HAR, Study, main

METHODS = ("local", "fedavg", "fedavg_ft", "fedprox")
HEAD = "# Baselines\n\nMade by `make results-baselines`; README.md says what the figures are.\n"
STUDIES = (
    Study("fashion", *FASHION, METHODS),
    Study("har", *HAR, METHODS),
)

if __name__ == "__main__":
    main("baselines", HEAD, STUDIES)
