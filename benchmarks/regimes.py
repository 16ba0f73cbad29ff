"""What `benchmarks.objectives` compares: each regime's data and networks, and three trials for every row.

Everything is an override of `fedkd distill`, as a user would type it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Words = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One way to teach the student.

    words: what all its trials share; trials: three settings, of which validation data choose one
    """

    words: Words
    trials: tuple[Words, Words, Words]


@dataclass(frozen=True)
class Regime:
    """One table.

    about: a sentence or two above it; data: data set and sizes
    teachers: how each teacher is trained; student: network and training, of every row
    rows: by label, the first two alone and plain KD; figures: columns, by the keys of summary.json
    """

    title: str
    about: str
    data: Words
    teachers: Sequence[Words]
    student: Words
    rows: Mapping[str, Row]
    figures: Mapping[str, str] = field(default_factory=lambda: {"accuracy": "weighted_mean"})


def settings(key: str, *values: object) -> tuple[Words, Words, Words]:
    """Three trials of one key."""
    a, b, c = ((f"{key}={value}",) for value in values)
    return a, b, c


def beside_ce(name: str) -> Row:
    """A term beside the cross entropy, in three mixtures."""
    return Row(
        (f"objective=[ce,{name}]",), settings("objective.weights", "[0.9,0.1]", "[0.5,0.5]", "[0.1,0.9]")
    )


def beside_kd(name: str, *weights: float) -> Row:
    """A third term beside 0.5 CE + 0.5 KD, under three weights."""
    mixtures = (f"[0.5,0.5,{weight}]" for weight in weights)
    return Row((f"objective=[ce,kd,{name}]",), settings("objective.weights", *mixtures))


ALONE = Row(("objective=ce",), settings("local.lr", 0.02, 0.05, 0.1))
KD = beside_ce("kd")
GROWING = "{_target_: fedkd.schedule.Linear, start: 0.0, stop: 0.5, rounds: 2}"
EXITS = "{_target_: fedkd.objectives.ofa.OFA, exits: [2, 3]}"

FASHION = ("data=fashion_mini", "data.max_samples=4000", "split.val=0.25")
"""3,000 training, 1,000 validation, 2,000 test images."""
TEACHER = ("teacher.model=cnn4", "teacher.model.width=16", "teacher.rounds=2", "local.epochs=5")
SHORT = ("student.rounds=2", "local.epochs=4")
SMALL = ("student.model=mlp", "student.model.hidden=[32]", *SHORT)
THIN = ("student.model=mlp", "student.model.hidden=[8]", *SHORT)
NARROW = ("student.model=cnn4", "student.model.width=4", *SHORT)

GRAPH = ("local.optimizer=adam", "local.lr=0.01", "local.weight_decay=0.0005", "local.epochs=60")
"""Whole graphs: 120 steps in two rounds."""


def _graph(name: str, labelled: str) -> Regime:
    alone = Row(("objective=ce",), settings("local.lr", 0.003, 0.01, 0.03))
    return Regime(
        f"Graph to perceptron: {name.capitalize()}",
        f"A two-layer GCN of width 64 teaches a perceptron of width 64 that sees no edge; {labelled} "
        "labelled nodes, 1,000 test nodes, Planetoid's split. The teacher speaks about every node, those "
        "that are tested too (transductive, as published); their labels are seen by nobody.",
        (f"data={name}", *GRAPH),
        (("teacher.model=mlp", "teacher.model.hidden=[64]", "teacher.rounds=2"),),
        ("student.model=mlp", "student.model.hidden=[64]", "student.rounds=2"),
        {
            "alone": alone,
            "kd": KD,
            "ffg2m": Row(("objective=ffg2m",), settings("objective.lam", 0.0, 0.1, 0.3)),
        },
    )


def _few_labels(share: float) -> Regime:
    return Regime(
        f"Few labels: {share:.0%}",
        f"The student may use {share:.0%} of the 3,000 labels, the teacher used all of them.",
        FASHION,
        (TEACHER,),
        (*SMALL, f"student.labelled={share}"),
        {
            "alone": ALONE,
            "kd": KD,
            "dho": Row(
                ("objective=dho",),
                (
                    ("objective.ce_weight=0.9", "objective.kd_weight=0.1"),
                    ("objective.ce_weight=0.5", "objective.kd_weight=0.5"),
                    ("objective.ce_weight=0.1", "objective.kd_weight=0.9"),
                ),
            ),
        },
    )


REGIMES: dict[str, Regime] = {
    "plain": Regime(
        "Plain classification, and calibration",
        "Fashion-MNIST extract, 3,000 training images; a network of four convolutions teaches a perceptron "
        "with one layer of 32. Expected calibration error in 15 bins: lower is better.",
        FASHION,
        (TEACHER,),
        SMALL,
        {
            "alone": ALONE,
            "kd": KD,
            "pld": Row(("objective=pld",), settings("objective.temperature", 1.0, 2.0, 4.0)),
            "nd": beside_kd("nd", 0.5, 1.0, 2.0),
            "bdkd": beside_ce("bdkd"),
            "reverse_kl": beside_ce("reverse_kl"),
            "jsd": beside_ce("jsd"),
            "dackl": beside_ce("dackl"),
            "tgeo": Row(("objective=tgeo",), settings("objective.temperature", 1.0, 2.0, 4.0)),
            "selfdistill": Row(("objective=selfdistill",), settings("objective.alpha", 0.3, 0.6, 0.9)),
        },
        {"accuracy": "weighted_mean", "calibration error": "ece"},
    ),
    "cora": _graph("cora", "140"),
    "few_labels_2": _few_labels(0.02),
    "few_labels_10": _few_labels(0.1),
    "gap": Regime(
        "A large capacity gap",
        "A network of four convolutions teaches a perceptron with one layer of 8.",
        FASHION,
        (TEACHER,),
        THIN,
        {
            "alone": ALONE,
            "kd": KD,
            "sinkd": beside_kd("sinkd", 0.08, 0.8, 8.0),
            "taid": Row(("objective=taid",), settings("objective.t_start", 0.2, 0.4, 0.6)),
        },
    ),
    "several_teachers": Regime(
        "Several teachers",
        "A wide perceptron, a network of four convolutions and a residual network teach a perceptron with "
        "one layer of 32; plain KD follows the mean of their logits. Of MST its third stage: "
        "teachers are not specialised.",
        FASHION,
        (
            ("teacher.model=mlp", "teacher.rounds=2", "local.epochs=5"),
            TEACHER,
            ("teacher.model=resnet8", "teacher.model.width=8", "teacher.rounds=2", "local.epochs=3"),
        ),
        SMALL,
        {"alone": ALONE, "kd": KD, "mst": Row(("objective=mst",), settings("objective.k", 1, 2, 3))},
    ),
    "two_classes": Regime(
        "Two classes",
        "Adult: 3,000 training rows, the official 16,281 for test; a perceptron of 128 and 64 teaches one "
        "of 8.",
        ("data=adult", "data.max_samples=4000", "split.val=0.25"),
        (("teacher.model=tabular", "teacher.model.hidden=[128,64]", "teacher.rounds=2", "local.epochs=5"),),
        ("student.model=tabular", "student.model.hidden=[8]", *SHORT),
        {
            "alone": ALONE,
            "kd": KD,
            "lelp": Row(("objective=lelp",), settings("objective.beta", 0.5, 1.0, 2.0)),
        },
    ),
    "long_tail": Regime(
        "A long tail",
        "Fashion-MNIST extract, 800 images of the largest class and 16 of the smallest before validation "
        "takes a quarter; the test set is balanced. A network of four convolutions teaches one of a quarter "
        "of its width.",
        ("data=fashion_mini", "data.longtail=50", "split.val=0.25"),
        (TEACHER,),
        NARROW,
        {
            "alone": ALONE,
            "kd": KD,
            "trg": beside_kd("trg", 0.1, 0.3, 1.0),
            "margin": Row(("objective=margin",), settings("student.risk", "balanced", "tradeoff", "robust")),
        },
        {"accuracy": "weighted_mean", "worst class": "worst_class"},
    ),
    "architectures": Regime(
        "Across architectures",
        "A network of four convolutions teaches a small vision transformer (patches of 7 x 7).",
        FASHION,
        (TEACHER,),
        (
            *(
                "student.model=vit",
                "student.model.patch=7",
                "student.model.width=32",
                "student.model.depth=3",
            ),
            *("local.optimizer=adamw", "local.lr=0.002", *SHORT),
        ),
        {
            "alone": Row(("objective=ce",), settings("local.lr", 0.001, 0.002, 0.004)),
            "kd": KD,
            "ofa": beside_ce(EXITS),
            "diswot": beside_kd("diswot_relation", 30.0, 300.0, 3000.0),
        },
    ),
    "proxy": Regime(
        "Shifted proxy data",
        "The teacher learned 3,000 images of CIFAR-10; KD and KD^3 see 3,000 unlabelled images of CIFAR-100 "
        "and none of CIFAR-10. The student alone learns from the labelled CIFAR-10 images: no competitor, a "
        "mark.",
        ("data=cifar10", "data.max_samples=4000", "split.val=0.25"),
        (("teacher.model=cnn4", "teacher.model.width=16", "teacher.rounds=2", "local.epochs=6"),),
        ("student.model=cnn4", "student.model.width=8", *SHORT),
        {
            "alone": ALONE,
            "kd": Row(
                ("objective=kd", "proxy=cifar100", "proxy.max_samples=3000"),
                settings("objective.temperature", 1.0, 4.0, 8.0),
            ),
            "kd3": Row(
                (
                    *("objective=kd3", "proxy=cifar100", "proxy.max_samples=3000"),
                    f"objective.student_share={GROWING}",
                ),
                settings("student.keep", 0.5, 0.75, 1.0),
            ),
        },
    ),
    "citeseer": _graph("citeseer", "120"),
}
