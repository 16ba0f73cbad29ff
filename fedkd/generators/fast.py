"""Fast: G. Fang et al., "Up to 100x Faster Data-free Knowledge Distillation", AAAI 2022, arXiv 2112.06253.

A meta generator is kept over batches. Each batch clones it, adapts the clone and its noise for a few steps,

    L = bn L_bn + oh CE(t, y) - adv mean_b 1[argmax s == argmax t] KL(t || s),

and moves the meta generator by a first-order update: the sum of the clone's gradients (FOMAML), or
67 (G - G') (Reptile), both through Adam. L_bn matches statistics averaged over batches, which is what makes
few steps enough.
"""

import copy
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from fedkd.generators.base import Generator, choice, reset
from fedkd.generators.hooks import Moving
from fedkd.generators.schemes import Pooled, Synthesis
from fedkd.generators.terms import Adversarial, Fidelity, Statistics, Terms
from fedkd.generators.train import History, Optim, Scene, invert
from fedkd.objectives.logits import KD
from fedkd.schedule import Step
from fedkd.training.optimizers import Optimizer, Together

REPTILE = 67.0
"""The release's factor on G - G'."""


@dataclass(frozen=True)
class Meta:
    """A meta generator, adapted for every batch.

    lr, noise_lr: of the clone and of its noise; the meta generator's is steps * lr, or lr with Reptile
    momentum: share of the past in the BatchNorm statistics of the batches
    reset_at: epoch in which the first linear layer is initialised again
    """

    terms: Terms
    steps: int = 5
    batch_size: int = 256
    lr: float = 3e-3
    noise_lr: float = 0.01
    update: Literal["fomaml", "reptile"] = "fomaml"
    momentum: float = 0.9
    reset_at: int | None = None

    def __post_init__(self) -> None:
        choice("update", self.update, ("fomaml", "reptile"))

    def start(self, generator: Generator) -> Synthesis:
        """Remembers the meta generator's optimizer and the moving statistics."""
        factor = self.steps if self.update == "fomaml" else 1
        meta = Optim("adam", factor * self.lr, beta1=0.5)(generator.parameters())
        moving, due = Moving(self.momentum), self.reset_at

        def synthesise(scene: Scene) -> tuple[Tensor, Tensor, History]:
            nonlocal due
            if due is not None and scene.clock >= due:
                reset(next(m for m in generator.modules() if isinstance(m, nn.Linear)), scene.rng)
                due = None
            made = self._adapt(scene, meta, moving)
            moving.advance()
            return made

        return synthesise

    def _adapt(self, scene: Scene, meta: Optimizer, moving: Moving) -> tuple[Tensor, Tensor, History]:
        """Adapt a clone to one batch, then move the meta generator."""
        mine, clone = scene.generator, copy.deepcopy(scene.generator)
        noise, labels = scene.request(self.batch_size)
        of_clone, of_noise = (Optim("adam", lr, beta1=0.5) for lr in (self.lr, self.noise_lr))
        optimizer = Together(of_clone(clone.parameters()), of_noise([noise]))
        meta.zero_grad()

        def gather() -> None:
            if self.update == "fomaml":
                add_gradients(mine, clone)

        scene = scene._replace(generator=clone)
        x, history = invert(
            scene, noise, labels, self.terms, optimizer, self.steps, moving=moving, after_step=gather
        )
        if self.update == "reptile":
            for old, new in zip(mine.parameters(), clone.parameters(), strict=True):
                old.grad = REPTILE * (old - new).detach()
        meta.step()
        for buffer, adapted in zip(mine.buffers(), clone.buffers(), strict=True):
            buffer.copy_(adapted)
        return x, labels, history


def add_gradients(generator: Generator, clone: Generator) -> None:
    """FOMAML: what the clone feels at each step adds up in the meta generator."""
    for mine, its in zip(generator.parameters(), clone.parameters(), strict=True):
        if its.grad is not None:
            mine.grad = its.grad.clone() if mine.grad is None else mine.grad + its.grad


def fast(
    epochs: int = 220,
    warmup: int = 20,
    steps: int = 5,
    batch_size: int = 256,
    bn: float = 10.0,
    one_hot: float = 0.5,
    adversarial: float = 1.33,
    student_lr: float = 0.2,
    student_steps: int = 400,
) -> Pooled:
    """The numbers of ResNet-34 to ResNet-18 on CIFAR-100, 5 steps; bn=0 for teachers without BatchNorm."""
    after_warmup = Step(values=(0.0, adversarial), rounds=(warmup,))
    terms = Terms(
        {
            "statistics": Statistics(bn),
            "fidelity": Fidelity(one_hot),
            "adversarial": Adversarial(after_warmup, mask="agree"),
        }
    )
    return Pooled(
        Meta(terms, steps, batch_size, reset_at=warmup + 120),
        epochs=epochs,
        warmup=warmup,
        student_steps=student_steps,
        batch_size=batch_size,
        student_optim=Optim("sgd", student_lr),
        objective=KD(temperature=20.0),
    )
