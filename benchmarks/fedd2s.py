"""The tables of docs/results/fedd2s.md, from scratch: `make results-fedd2s`."""

from benchmarks.studies import CIFAR10, FASHION, HAR, Study, main

METHODS = (
    "local",
    "fedavg",
    "fedavg_ft",
    "fedper",
    "fedrep",
    "ditto",
    "fd",
    "fedproto",
    "fedd2s",
    "fedd2s_adaptive",
)
HEAD = """# FedD2S as specified here, beside the personalization baselines

Made by `make results-fedd2s`; README.md says what the figures are. No figure here is one of the paper: FedD2S
is reconstructed from its outline (docs/fedd2s.md). `fedd2s_adaptive` trains a local twin beside each client's
model, which doubles its local work; the others spend the same local epochs. Full size:
`experiment=fedd2s_full`.
"""
STUDIES = (
    Study("har", *HAR, METHODS),
    Study(
        "digits",
        "Handwritten digits by writer",
        "100 writers of MNIST, each a client with 110 digits or so; a narrow classic CNN, 15 rounds, momentum 0.9.",
        "fedd2s_digits",
        METHODS,
    ),
    Study("fashion", *FASHION, METHODS),
    Study("cifar10", *CIFAR10, METHODS),
)

if __name__ == "__main__":
    main("fedd2s", HEAD, STUDIES)
