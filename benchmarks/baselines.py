"""The tables of docs/results/baselines.md, from scratch: `make results-baselines`."""

from benchmarks.studies import Study, main

METHODS = ("local", "fedavg", "fedavg_ft", "fedprox")
HEAD = "# Baselines\n\nMade by `make results-baselines`; README.md says what the figures are.\n"
STUDIES = (
    Study(
        "fashion",
        "Fashion-MNIST extract, 20 clients, Dirichlet 0.1",
        "The 10,000 images of `fashion_mini`, the 4-convolution CNN of width 8, 15 rounds of an epoch.",
        "baselines_fashion",
        METHODS,
    ),
    Study(
        "har",
        "Human activity recognition, 30 people",
        "Each person is a client, split by recording; a 1-D CNN, 15 rounds of one local epoch.",
        "baselines_har",
        METHODS,
    ),
)

if __name__ == "__main__":
    main("baselines", HEAD, STUDIES)
