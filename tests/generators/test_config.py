"""Every generator that can be chosen by name can be built and sampled."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import simulations
from fedkd.build import build
from fedkd.errors import ConfigError
from fedkd.generators.dense import dense
from fedkd.generators.fast import fast
from fedkd.generators.schemes import InTurns
from fedkd.generators.terms import Adversarial, Terms
from fedkd.generators.train import Optim
from fedkd.seeds import torch_rng

FOLDER = Path(simulations.__file__).parent / "conf" / "generator"
SHAPES: dict[str, dict[int, tuple[int, ...]]] = {
    "latent": {1: (3, 4, 4), 2: (5,)},
    "image": {0: (1, 28, 28)},
    "series": {0: (9, 128)},
    "table": {0: (14,)},
}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_named_generators_build(name: str) -> None:
    node = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    shapes = SHAPES.get(name, {0: (1, 8, 8)})
    made = build(node, shapes=shapes, num_classes=3, rng=torch_rng(0, "g"))
    x = made.sample(torch.tensor([0, 2]), torch_rng(0, "x"))
    assert x.shape == (2, *shapes[max(shapes)])


def test_terms_build_from_configuration() -> None:
    terms = build(
        {
            "_target_": "fedkd.generators.terms.Terms",
            "terms": {
                "fidelity": {"_target_": "fedkd.generators.terms.ClientFidelity"},
                "adversarial": {
                    "_target_": "fedkd.generators.terms.Adversarial",
                    "weight": {"_target_": "fedkd.schedule.Linear", "start": 0.0, "stop": 1.0, "rounds": 4},
                    "mask": "disagree",
                },
            },
        }
    )
    assert set(terms.active(0)) == {"fidelity"} and terms.active(2)["adversarial"][0] == 0.5


SCHEME = r"method\.strategy\.scheme\."


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: InTurns(Terms(), batch_size=0), SCHEME + "batch_size=0: a whole number from 1"),
        (lambda: InTurns(Terms(), student_steps=-1), SCHEME + "student_steps=-1: a whole number from 0"),
        (lambda: InTurns(Terms(), labels="all"), "labels=all"),  # type: ignore[arg-type]
        (lambda: dense(epochs=-1), SCHEME + "epochs=-1"),
        (lambda: dense(capacity=0), SCHEME + "capacity=0"),
        (lambda: fast(student_steps=0), SCHEME + "student_steps=0"),
        (lambda: Adversarial(temperature=0.0), "temperature=0.0 of a term"),
        (lambda: Optim("sgd", -0.1), "lr=-0.1"),
        (lambda: Optim(clip=0.0), "clip=0.0"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
