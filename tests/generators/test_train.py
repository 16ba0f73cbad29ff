"""The two loops: they learn what they should, touch nothing else, and repeat to the bit."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError
from fedkd.generators.convolutional import Convolutional
from fedkd.generators.coverage import coverage
from fedkd.generators.ensemble import Ensemble, LabelShare
from fedkd.generators.latent import Latent
from fedkd.generators.noise import Noise
from fedkd.generators.sources import from_generator, from_samples
from fedkd.generators.terms import Adversarial, ClientFidelity, Diversity, Fidelity, Statistics, Terms
from fedkd.generators.train import Optim, distill, fit_generator
from fedkd.objectives.logits import CE, KD
from fedkd.objectives.signals import Signals
from fedkd.objectives.sinkd import SinKD
from fedkd.seeds import torch_rng

FEDGEN = Terms({"fidelity": ClientFidelity(), "diversity": Diversity()})


def test_fidelity_passes_ninety_percent_in_200_steps_without_collapse(
    latent: Latent, oracle: Ensemble
) -> None:
    rng = torch_rng(0, "fit")
    before = coverage(latent, oracle, rng)
    history = fit_generator(latent, FEDGEN, oracle, Optim(lr=3e-3)(latent.parameters()), 200, rng).history
    after = coverage(latent, oracle, rng)
    assert before.accuracy < 0.5 and after.accuracy > 0.9
    assert torch.allclose(after.predicted, torch.full((4,), 0.25), atol=0.05)
    assert after.spread > before.spread / 2
    assert len(history) == 200 and set(history[0]) == {"fidelity", "diversity"}
    assert history[-1]["fidelity"] < 0.3 < history[0]["fidelity"]


def test_an_image_generator_learns_too() -> None:
    scores = nn.Sequential(nn.Flatten(), nn.Linear(100, 3))
    with torch.no_grad():
        scores.get_parameter("1.weight").copy_(torch.randn(3, 100, generator=torch_rng(0, "oracle")))
    oracle, rng = Ensemble([scores], torch.ones(1, 3)), torch_rng(0, "fit")
    generator = Convolutional({0: (1, 10, 10)}, 3, rng, nz=8, channels=8)
    fit_generator(
        generator, Terms({"f": Fidelity()}), oracle, Optim(lr=2e-3)(generator.parameters()), 60, rng
    )
    assert coverage(generator, oracle, rng).accuracy > 0.9


def test_coverage_knows_what_nobody_holds(latent: Latent, teachers: Ensemble, rng: torch.Generator) -> None:
    seen = coverage(latent, teachers, rng, per_class=5)
    assert seen.fidelity[3].isnan() and not seen.fidelity[:3].isnan().any()
    assert float(seen.predicted.sum()) == pytest.approx(1.0)


def test_coverage_takes_images_in_any_memory_layout(rng: torch.Generator) -> None:
    teachers = Ensemble([nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))], torch.ones(1, 2))
    generator = Convolutional({0: (3, 8, 8)}, 2, rng, nz=4, channels=4)
    plain = coverage(generator, teachers, torch_rng(0, "judge"))
    generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    labels = torch.zeros(4, dtype=torch.long)
    assert not generator.eval().sample(labels, rng).is_contiguous()
    assert coverage(generator, teachers, torch_rng(0, "judge")).spread == pytest.approx(
        plain.spread, rel=1e-5
    )


def test_a_placebo_and_terms_without_weight_leave_everything_untouched(
    latent: Latent, teachers: Ensemble, rng: torch.Generator
) -> None:
    placebo = Noise({1: (6,)}, 4)
    assert fit_generator(placebo, FEDGEN, teachers, Optim()(placebo.parameters()), 3, rng).history == []
    before = {name: tensor.clone() for name, tensor in latent.state_dict().items()}
    off = Terms({"fidelity": ClientFidelity(0.0), "statistics": Statistics(0.0)})
    state = rng.get_state()
    assert fit_generator(latent, off, teachers, Optim()(latent.parameters()), 3, rng).history == []
    assert all(torch.equal(before[name], tensor) for name, tensor in latent.state_dict().items())
    assert torch.equal(state, rng.get_state())


def test_runs_repeat_to_the_bit_and_leave_the_global_generator_alone(
    teachers: Ensemble, make_network: Callable[..., nn.Sequential]
) -> None:
    def once() -> list[torch.Tensor]:
        rng = torch_rng(4, "run")
        latent, student = Latent({1: (6,)}, 4, rng, nz=3, hidden=8), make_network(7)
        terms = Terms({"fidelity": Fidelity(), "adversarial": Adversarial(mask="disagree")})
        fit_generator(latent, terms, teachers, Optim()(latent.parameters()), 5, rng, student=student)
        inputs = from_generator(latent, teachers.counts, 16)
        distill(student, teachers.signals, inputs, KD(2.0), Optim("sgd", 0.1)(student.parameters()), 5, rng)
        return [*latent.state_dict().values(), *student.state_dict().values()]

    state = torch.get_rng_state()
    first = once()
    assert torch.equal(torch.get_rng_state(), state)
    torch.randn(5)
    assert all(torch.equal(a, b) for a, b in zip(first, once(), strict=True))


def test_the_students_mode_is_restored(
    latent: Latent, teachers: Ensemble, make_network: Callable[..., nn.Sequential], rng: torch.Generator
) -> None:
    student = make_network(7, norm=True)
    running = student[1].running_mean.clone()  # type: ignore[operator, union-attr]
    for training in (True, False):
        student.train(training)
        fit_generator(
            latent,
            Terms({"a": Adversarial()}),
            teachers,
            Optim()(latent.parameters()),
            2,
            rng,
            student=student,
        )
        assert student.training is training and not latent.training
    assert torch.equal(student[1].running_mean, running)  # type: ignore[arg-type]


def test_an_adversarial_generator_finds_what_the_student_lacks(
    latent: Latent, oracle: Ensemble, make_network: Callable[..., nn.Sequential]
) -> None:
    student, rng = make_network(7), torch_rng(0, "fit")
    terms = Terms({"adversarial": Adversarial()})
    fit = fit_generator(latent, terms, oracle, Optim()(latent.parameters()), 40, rng, student=student)
    assert fit.history[-1]["adversarial"] < 1.3 * fit.history[0]["adversarial"] < 0


def test_one_distillation_step_by_hand() -> None:
    student = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        student.weight.zero_()
    x = torch.tensor([[1.0, 0.0]])

    def tell(x: torch.Tensor, labels: torch.Tensor | None) -> Signals:
        return Signals(teacher_logits=torch.tensor([[3.0, 1.0]]))

    optimizer = Optim("sgd", 0.5, momentum=0.0)(student.parameters())
    history = distill(student, tell, from_samples(x, None, 1), KD(1.0), optimizer, 1, torch_rng(0, "d"))
    p = torch.tensor([3.0, 1.0]).softmax(0)
    assert torch.allclose(student.weight[:, 0], 0.5 * (p - 0.5))  # - lr (softmax(s) - p) x
    assert not student.weight[:, 1].any()
    kl = (p * (p / 0.5).log()).sum()
    assert history[0]["student"] == pytest.approx(float(kl)) and not student.training


def test_sample_weights_enter_the_loss_and_ones_change_no_bit() -> None:
    x, y = torch.randn(4, 3, generator=torch_rng(0, "x")), torch.tensor([0, 1, 0, 1])

    def once(weights: torch.Tensor | None) -> torch.Tensor:
        student = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            student.weight.fill_(0.1)
        source = from_samples(x, y, 4, weights)
        optimizer = Optim("sgd", 0.1)(student.parameters())
        distill(student, lambda x, y: Signals(labels=y), source, CE(), optimizer, 3, torch_rng(0, "d"))  # type: ignore[arg-type]
        return student.weight.detach()

    assert torch.equal(once(None), once(torch.ones(4)))
    assert not torch.allclose(once(None), once(torch.tensor([4.0, 0.0, 0.0, 0.0])))


def test_batch_coupled_objectives_run_but_take_no_weights(oracle: Ensemble, rng: torch.Generator) -> None:
    student, x = nn.Linear(6, 4), torch.randn(8, 6, generator=rng)
    optimizer = Optim("sgd", 0.1)(student.parameters())
    distill(student, oracle.signals, from_samples(x, None, 8), SinKD(), optimizer, 1, rng)
    with pytest.raises(ConfigError, match="takes no weights"):
        distill(student, oracle.signals, from_samples(x, None, 8, torch.ones(8)), SinKD(), optimizer, 1, rng)


def test_an_objective_that_lacks_a_signal_is_refused(oracle: Ensemble, rng: torch.Generator) -> None:
    student, x = nn.Linear(6, 4), torch.randn(8, 6, generator=rng)
    for weights in (None, torch.ones(8)):
        source = from_samples(x, None, 8, weights)
        with pytest.raises(ConfigError, match="needs labels"):
            distill(student, oracle.signals, source, CE(), Optim()(student.parameters()), 1, rng)


def test_only_the_optimizers_parameters_move(oracle: Ensemble, rng: torch.Generator) -> None:
    student = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    below = student[0].weight.clone()  # type: ignore[operator]
    above = student[2].weight.clone()  # type: ignore[operator]
    source = from_samples(torch.randn(8, 6, generator=rng), None, 8)
    distill(student, oracle.signals, source, KD(1.0), Optim()(student[2].parameters()), 2, rng)
    assert torch.equal(student[0].weight, below) and student[0].weight.grad is None  # type: ignore[arg-type, union-attr]
    assert not torch.equal(student[2].weight, above)  # type: ignore[arg-type]


def test_public_inputs_and_label_shares_do_not_go_together(teachers: Ensemble, rng: torch.Generator) -> None:
    teachers.weighting = LabelShare()
    student, public = nn.Linear(6, 4), torch.randn(8, 6, generator=rng)
    with pytest.raises(ConfigError, match="labelled inputs"):
        distill(
            student,
            teachers.signals,
            from_samples(public, None, 8),
            KD(1.0),
            Optim()(student.parameters()),
            1,
            rng,
        )


def test_optimizers_clip_and_schedule() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = Optim("sgd", 1.0, momentum=0.0, clip=5.0)([weight])
    weight.grad = torch.tensor([30.0, 40.0])
    optimizer.step()
    assert torch.allclose(weight, torch.tensor([-3.0, -4.0]))
    with pytest.raises(ConfigError, match="kind=lion"):
        Optim("lion")  # type: ignore[arg-type]
