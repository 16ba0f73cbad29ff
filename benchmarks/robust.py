"""The tables of docs/results/robust.md, from scratch: `make results-robust`."""

from benchmarks.robust_studies import Attacked, Pairs, Students, Sweeps
from benchmarks.studies import main

HEAD = """# Robust: the worst client, the worst class

Made by `make results-robust`; README.md says what the figures are, docs/robust.md what the options do. The
square of a deviation is the variance, in which q-FFL's paper counts. The step size of local training and of
FedAvg is tuned, and every weighting runs with FedAvg's; what else a weighting has is at its default, or is
the axis of a curve. Attacks and teacher x student are not tuned: every row has the defaults. Sizes are those
of the experiments named; `experiment=..._full` beside each is for larger machines.
"""
METHODS = ("local", "fedavg")
WEIGHTINGS = "weighting=samples,eg,afl,cvar,tilted,qffl,drfa"
HAR, FASHION, TABLE = "har_weights", "fashion_weights", "teacher_student"
QUICK = ("student.method.gamma=0.5", "student.method.warmup=0")
ROBUST = ("student.risk=robust", *QUICK)
NEIGHBOURS = {
    "standard": (),
    "margin_robust": ROBUST,
    "margin_robust_calibrated_teacher": (*ROBUST, "teacher.calibrate=true"),
    "margin_robust_teacher_validation": (*ROBUST, "student.validation=teacher"),
    "post_shift_robust": ("student.method=post_shift", "student.risk=robust"),
    "DeTT_robust_teacher": ("objective=dett", "teacher.risk=robust", "student.risk=balanced"),
    "group_DRO": ("objective=ce", "student.method=group_dro"),
    "group_DRO_distillation": ("student.method=group_dro",),
    "logit_adjustment": ("student.method=logit_adjustment",),
    "AdaAlpha": ("student.method=ada_alpha",),
    "AdaMargin": ("student.method=ada_margin",),
    "post_hoc_DRO": ("student.method=prior_shift",),
}


def weightings(name: str, title: str, says: str, experiment: str, alone: bool = True) -> Sweeps:
    """FedAvg under each weighting; beside it local-only training, if that says anything."""
    rows = (("method=local",), ("method=fedavg", WEIGHTINGS))
    return Sweeps(name, title, says, experiment, METHODS[not alone :], sweeps=rows[not alone :])


def qffl(
    name: str, title: str, says: str, experiment: str, *more: str, q: str = "0.1,1.0,5.0", trials: int = 4
) -> Sweeps:
    """q-FedAvg along q beside FedAvg and local-only training."""
    alone, base = ("method=local",), ("method=fedavg",)
    powers = ("method=fedavg", "weighting=qffl", f"weighting.q={q}")
    rows, over = (alone, base, powers), "weighting.q"
    return Sweeps(name, title, says, experiment, METHODS, trials, more=more, sweeps=rows, over=over)


def along(name: str, key: str, title: str, parent: str, experiment: str, *words: str) -> Sweeps:
    """A curve through rows of FedAvg, beside the rows of the parent."""
    says = f"At the step size chosen above, beside its rows; {key} varies."
    sweep = ("method=fedavg", *words)
    return Sweeps(name, title, says, experiment, (), 0, sweeps=(sweep,), over=key, parent=parent)


def attacked(kind: str, says: str, *words: str) -> Attacked:
    """The weightings and three robust rules of Flower under one kind of bad clients."""
    return Attacked(
        f"attack_{kind}",
        f"Bad clients: {kind.replace('_', ' ')}",
        says,
        "robust_attacks",
        (),
        sweeps=(
            ("method=fedavg", WEIGHTINGS, *words),
            ("method=fedavg", "weighting=tilted", "weighting.t=-2.0", *words),
            ("method=krum", "method.strategy.num_malicious_nodes=4", *words),
            ("method=fedmedian,fedtrimmedavg", *words),
        ),
    )


STUDIES = (
    weightings(
        HAR,
        "Client weightings: human activity recognition, 30 people",
        "Each person is a client, split by recording; a perceptron of 64 units, 30 rounds of 10 steps.",
        "robust_har",
    ),
    weightings(
        FASHION,
        "Client weightings: Fashion-MNIST extract, 20 clients, Dirichlet 0.1",
        "The 10,000 images of `fashion_mini`, the 4-convolution CNN of width 8, 15 rounds of eight steps.",
        "robust_fashion",
    ),
    weightings(
        "three_classes",
        "Client weightings: three classes of Fashion-MNIST, one a client",
        "The setting of the AFL paper: T-shirt, pullover and shirt, logistic regression, 300 rounds of one "
        "local step. A client alone knows one class and is always right about it: no local-only row.",
        "robust_classes",
        alone=False,
    ),
    Pairs(
        TABLE,
        "Teacher objective x student objective: long-tailed CIFAR-10, ratio 100",
        "Small residual networks on a seeded subset of 6,000 images, ten epochs each, self-distillation; of "
        "the balanced test set one half is for validation. The worst tenth of ten is the worst class.",
        "distill/robust_cifar10",
        (),
        more=QUICK,
    ),
    qffl(
        "qffl_synthetic",
        "The shape of q-FFL: synthetic (1, 1)",
        "50 clients, logistic regression, 500 rounds of 10 clients with one local step.",
        "robust_synthetic",
    ),
    qffl(
        "qffl_har",
        "The shape of q-FFL: human activity, perceptron on raw windows",
        "Each person is a client, all of them take part, 150 rounds of one local step.",
        "robust_har",
        "local.steps=1",
        "rounds=150",
        "evaluate_every=50",
    ),
    qffl(
        "qffl_har_linear",
        "The shape of q-FFL: human activity, linear model on statistics of the sensors",
        "As the paper's Vehicle: a linear model of features of real sensors. Each person is a client, all of "
        "them take part, 2,000 rounds of one local step on 256 samples.",
        "robust_har_linear",
        q="1.0,5.0",
        trials=10,
    ),
    attacked("none", "20 clients, Dirichlet 0.5, an MLP, 15 rounds of ten steps: nobody is bad."),
    attacked(
        "label_noise",
        "In a fifth of the clients, 80 % of the training and validation labels are wrong.",
        "label_noise.clients=0.2",
        "label_noise.labels=0.8",
    ),
    attacked(
        "sign_flip", "A fifth of the clients sends the opposite.", "attack=sign_flip", "attack.clients=0.2"
    ),
    attacked(
        "scale", "A fifth of the clients sends ten times its update.", "attack=scale", "attack.clients=0.2"
    ),
    weightings(
        "adult_weights",
        "Client weightings: Adult, by occupation",
        "A client for each occupation with 100 people and more; a small perceptron, 30 rounds of ten steps.",
        "robust_adult",
    ),
    along(
        "har_alpha",
        "weighting.alpha",
        "Average against worst, along alpha: human activity",
        HAR,
        "robust_har",
        "weighting=eg,afl,cvar",
        "weighting.alpha=0.25,0.5,0.75",
    ),
    along(
        "har_level",
        "weighting.level",
        "Average against worst, along the level of CVaR: human activity",
        HAR,
        "robust_har",
        "weighting=cvar",
        "weighting.level=0.1,0.4,0.8",
    ),
    along(
        "har_tilt",
        "weighting.t",
        "Average against worst, along the tilt: human activity",
        HAR,
        "robust_har",
        "weighting=tilted",
        "weighting.t=0.5,2.0,5.0",
    ),
    along(
        "fashion_classes",
        "class_weighting.alpha",
        "Average against worst class, along alpha of the class multipliers: Fashion-MNIST extract",
        FASHION,
        "robust_fashion",
        "class_weighting=margin",
        "class_weighting.alpha=0.0,0.25,0.5,0.75,1.0",
    ),
    Students(
        "students",
        "Ways to teach the worst class: long-tailed CIFAR-10, ratio 100",
        "Students of the teachers above: those of the standard objective, but for DeTT.",
        "distill/robust_cifar10",
        (),
        parent=TABLE,
        rows=NEIGHBOURS,
    ),
)

if __name__ == "__main__":
    main("robust", HEAD, STUDIES)
