"""The tables of docs/results/fedd2s.md, from scratch: `make results-fedd2s`."""

from benchmarks.studies import Study, main

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
    Study(
        "har",
        "Human activity recognition, 30 people",
        "Each person is a client, split by recording; a 1-D CNN, 15 rounds of one local epoch.",
        "baselines_har",
        METHODS,
    ),
    Study(
        "digits",
        "Handwritten digits by writer",
        "100 writers of MNIST, each a client with 110 digits or so; a narrow classic CNN, 15 rounds.",
        "fedd2s_digits",
        METHODS,
    ),
    Study(
        "fashion",
        "Fashion-MNIST extract, 20 clients, Dirichlet 0.1",
        "The 10,000 images of `fashion_mini`, the 4-convolution CNN of width 8, 15 rounds of an epoch.",
        "baselines_fashion",
        METHODS,
    ),
    Study(
        "cifar10",
        "CIFAR-10 subset, 20 clients, Dirichlet 0.1",
        "A seeded subset of 6,000 images, the 4-convolution CNN of width 8, 15 rounds of an epoch.",
        "fedd2s_cifar10",
        METHODS,
    ),
)

if __name__ == "__main__":
    main("fedd2s", HEAD, STUDIES)
