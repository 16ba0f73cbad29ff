"""What `fedkd distill` is made of, built from a resolved configuration before anything is written."""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedkd.build import build
from fedkd.data import build_federation
from fedkd.data.public import foreign
from fedkd.data.samples import ClientData, Samples
from fedkd.errors import ConfigError
from fedkd.graphs.graph import GraphData
from fedkd.graphs.networks import by_number, gcn, numbered
from fedkd.models import build_model
from fedkd.models.staged import StagedModel
from fedkd.objectives.base import Objective
from fedkd.objectives.logits import CE
from fedkd.robust.class_methods import ClassMethod
from fedkd.seeds import rng
from fedkd.training.distill import PLACE, Distillation
from fedkd.training.learner import check_fit
from fedkd.training.lessons import EVERYTHING, Lessons, some_labels
from fedkd.training.loop import DivergedError
from fedkd.training.settings import LocalSettings
from simulations.rundir import load_config

TEACHER_FILE = "teacher.safetensors"


@dataclass
class Prepared:
    """Parts that are known to fit together. `given`: teachers of former runs; if none, one is trained."""

    config: dict[str, Any]
    data: ClientData
    objective: Objective
    methods: dict[str, ClassMethod]
    networks: dict[str, StagedModel]
    given: list[StagedModel]
    lessons: dict[str, Lessons]
    settings: LocalSettings


def prepare(config: dict[str, Any]) -> Prepared:
    """Build all that can be wrong; raises ConfigError in one sentence where it is."""
    torch.set_num_threads(config["threads"])
    data = pooled(config)
    sources = config["teacher"]["from"] or []
    sources = [sources] if isinstance(sources, str) else list(sources)
    if sources and config["teacher"]["undo_gains"]:
        raise ConfigError(
            "teacher.undo_gains=true needs a teacher that is trained here, without teacher.from"
        )
    networks, methods = {}, {}
    for side in ("teacher", "student"):
        node = config[side]
        networks[side] = network(side, node["model"], data, seed_of(side, config["seed"]))
        try:
            methods[side] = build(node["method"], risk=node["risk"], alpha=node["alpha"])
        except ConfigError as error:
            raise ConfigError(f"{side}.{error}") from error
    objective, taught = build(config["objective"]), lessons(config, data)
    check_fit(CE(), methods["teacher"], 0, "the teacher's own training", taught["teacher"])
    check_fit(objective, methods["student"], max(len(sources), 1), PLACE, taught["student"])
    given = [former(source, config, data) for source in sources]
    settings = settings_for(config, data)
    prepared = Prepared(config, data, objective, methods, networks, given, taught, settings)
    rehearse(prepared)
    return prepared


def rehearse(prepared: Prepared) -> None:
    """Train both sides on one batch, on copies: what does not fit is told before anything is written."""
    settings, data = replace(prepared.settings, epochs=1, steps=1), prepared.data
    few = torch.arange(min(len(data.train), settings.batch_size))
    tiny = replace(data, train=data.train.take(few), val=data.val.take(few[: len(data.val)]))
    teacher, student = (deepcopy(prepared.networks[side]) for side in ("teacher", "student"))
    for side, objective, network, teachers in (
        ("teacher", CE(), teacher, []),
        ("student", prepared.objective, student, deepcopy(prepared.given) or [teacher]),
    ):
        told = prepared.lessons[side].first(len(few))
        stage = Distillation(
            objective, prepared.methods[side], network, teachers, tiny, settings, 1, 0, lessons=told
        )
        with suppress(DivergedError):
            next(stage.rounds())


def pooled(config: Mapping[str, Any]) -> ClientData:
    """All data in one hand: the official test set where there is one, validation data apart from the rest."""
    federation = build_federation({**config, "clients": 1})
    held = federation.client(0)
    if isinstance(held, GraphData):
        return numbered(held)
    train, val, test = held.train, held.val, held.test
    if "test_x" in federation.arrays() and federation.global_test is not None:
        train, test = joined(train, test), federation.global_test
    if config["validation"] == "test_half":
        order = torch.from_numpy(rng(config["seed"], "validation half").permutation(len(test)))
        train, val, test = joined(train, val), test.take(order[::2]), test.take(order[1::2])
    for name, samples in (("validation", val), ("test", test)):
        if len(samples) == 0:
            raise ConfigError(f"data={federation.name} leaves no {name} samples: set split.val, split.test")
    return ClientData(0, "pooled", train, val, test, federation.num_classes)


def joined(a: Samples, b: Samples) -> Samples:
    """The samples of both."""
    return Samples(torch.cat([a.x, b.x]), torch.cat([a.y, b.y]), torch.cat([a.ids, b.ids]))


def lessons(config: Mapping[str, Any], data: ClientData) -> dict[str, Lessons]:
    """What teacher and student are taught with."""
    share, keep, proxy = config["student"]["labelled"], config["student"]["keep"], config["proxy"]
    if isinstance(data, GraphData):
        if share < 1 or proxy or config["validation"] != "split":
            raise ConfigError(
                "data is a graph, which says itself what is labelled and what is for validation: "
                "student.labelled=1.0, proxy=null and validation=split are needed"
            )
        return dict.fromkeys(("teacher", "student"), Lessons(data.labelled, edges=data.edges))
    if proxy is None and keep < 1:
        raise ConfigError("student.keep selects among proxy samples: proxy=NAME is needed with it")
    if proxy is not None:
        return {"teacher": EVERYTHING, "student": Lessons(proxy=unlabelled(proxy, config), keep=keep)}
    few = None if share == 1 else some_labels(data.train.y, share, config["seed"])
    return {"teacher": EVERYTHING, "student": Lessons(few)}


def unlabelled(node: Mapping[str, Any], config: Mapping[str, Any]) -> Samples:
    """The pool of another data set; where that has a test set, all but this."""
    held = foreign(node, build_federation({**config, "clients": 1}), "proxy").client(0)
    return joined(joined(held.train, held.val), held.test)


def settings_for(config: Mapping[str, Any], data: ClientData) -> LocalSettings:
    """The local settings; of a graph, a batch is the whole of it."""
    settings: LocalSettings = build(config["local"])
    return replace(settings, batch_size=len(data.train)) if isinstance(data, GraphData) else settings


def network(side: str, node: Mapping[str, Any], data: ClientData, seed: int) -> StagedModel:
    """A network with seeded weights that fits the data; on a graph the teacher sees edges, as a GCN."""
    if isinstance(data, GraphData):
        perceptron = build_model(node, data.nodes.x.shape[1:], data.num_classes, seed, torch.float32)
        return (gcn if side == "teacher" else by_number)(perceptron, data)
    shape, kind = tuple(data.train.x.shape[1:]), data.train.x.dtype
    return build_model(node, shape, data.num_classes, seed, kind)


def seed_of(side: str, seed: int) -> int:
    """A seed for each side, so that equal networks do not start from equal weights."""
    return int(rng(seed, f"distill {side}").integers(2**31))


def same_teacher(folder: Path, config: Mapping[str, Any]) -> Path:
    """Of a folder of runs, as a sweep leaves it, the run with this run's teacher; else the folder itself."""
    runs = [file.parent for file in sorted(folder.glob(f"*/{TEACHER_FILE}"))]
    alike = (run for run in runs if _teaching(load_config(run)) == _teaching(config))
    return folder if (folder / TEACHER_FILE).is_file() else next(alike, folder)


def _teaching(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a trained teacher; the machine's paths do not."""
    later = ("from", "undo_gains", "calibrate")
    own = {key: value for key, value in config["teacher"].items() if key not in later}
    data = {key: value for key, value in config["data"].items() if key not in ("root", "verify")}
    names = ("split", "label_noise", "partition", "validation", "local", "seed", "precision")
    return {"teacher": own, "data": data} | {name: config[name] for name in names}


def former(source: str, config: Mapping[str, Any], data: ClientData) -> StagedModel:
    """The teacher of a former run (its folder, or one that holds it), or a network in a file."""
    path = same_teacher(Path(source), config)
    node = config["teacher"]["model"]
    if path.is_dir():
        node = load_config(path).get("teacher", {}).get("model", node)
        path = path / TEACHER_FILE
    if not path.is_file():
        raise ConfigError(
            f"teacher.from={source}: the folder of a finished `fedkd distill`, one that holds such a run "
            "with this seed, data and teacher, or a .safetensors file is needed"
        )
    model = network("teacher", node, data, 0)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"teacher.from={source}: {path.name} does not fit this teacher: {reason}"
        ) from error
    return model
