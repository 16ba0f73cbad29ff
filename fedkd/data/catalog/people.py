"""Data of people, who are the clients: writers, walkers, roles of plays."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedkd.data import hub
from fedkd.data.catalog.images import DIGITS, IDX_NAMES, Mnist
from fedkd.data.dataset import DataSet
from fedkd.data.files import Lookup
from fedkd.data.readers import leaf
from fedkd.data.readers.har import Windows, read_har_npz, read_har_text, statistics
from fedkd.data.readers.idx import read_idx
from fedkd.data.source import FileSource
from fedkd.errors import ConfigError

CHARACTERS = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
FEATURES = ("signals", "statistics")
ACTIVITIES = ("walking", "upstairs", "downstairs", "sitting", "standing", "laying")
QMNIST_SUM = "bb1b6e1ec7b04fd5696f1ed50b5f58f8ef195118edd5c93c81783df9740b8ac5"
HAR_SUM = "acf85a36b2719b36f59b041465ca870d6faeae19f229b989398a1b34238c1bcb"
LEAF_HOW = "make it with github.com/TalwalkarLab/leaf and put its train/ and test/ folders into data.root"


@dataclass(frozen=True)
class LeafSource(FileSource):
    """LEAF JSON in train/ and test/: a person's samples in the test file are that person's test split."""

    def leaf(self, decode_x: leaf.Decoder, decode_y: leaf.Decoder) -> leaf.Leaf | None:
        """The files' content, or None where there are none."""
        folder = self.lookup.folder(self.root, "train")
        if folder is None or not any((folder / "train").glob("*.json")):
            return None
        return leaf.read_leaf(folder, self.lookup.how, decode_x, decode_y)


@dataclass(frozen=True)
class Femnist(LeafSource):
    """FEMNIST of LEAF: grey 28x28 characters by writer; 62 classes, or 10 where the files hold no letters.

    The global test set is all clients' own test splits.
    """

    name: ClassVar[str] = "femnist"
    lookup: ClassVar[Lookup] = Lookup(
        "femnist", LEAF_HOW, folders=("femnist", "leaf_femnist", "leaf_mnist_by_writer")
    )

    def read(self) -> DataSet:
        found = self.leaf(leaf.pixels, leaf.labels)
        if found is None:
            return self._hub()
        classes = CHARACTERS if found.y.max() >= len(DIGITS) else DIGITS
        return DataSet(
            self.name,
            found.x,
            found.y,
            classes,
            persons=found.persons,
            person_names=found.users,
            is_test=found.is_test,
        )

    def _hub(self) -> DataSet:
        table = self.hub_split("flwrlabs/femnist", "train", "LEAF folder with train/*.json")
        x, y = hub.images(table, "image", "character")
        persons, names = hub.persons(table, "writer_id")
        return DataSet(self.name, x, y, CHARACTERS, persons=persons, person_names=names)


@dataclass(frozen=True)
class Shakespeare(LeafSource):
    """Next-character prediction by role of a play (LEAF): 80 characters in, the 81st out, 80 classes.

    Windows move by one character, so a client's splits are stretches of its text with 80 windows left out
    between them. The global test set is all clients' own test splits.
    """

    name: ClassVar[str] = "shakespeare"
    lookup: ClassVar[Lookup] = Lookup("shakespeare", LEAF_HOW, folders=("shakespeare", "leaf_shakespeare"))

    def read(self) -> DataSet:
        found = self.leaf(leaf.characters, leaf.next_character)
        if found is None:
            return self._hub()
        return self._dataset(found.x, found.y, found.persons, found.users, found.is_test)

    def _hub(self) -> DataSet:
        table = self.hub_split("flwrlabs/shakespeare", "train", "LEAF folder with train/*.json")
        persons, names = hub.persons(table, "character_id")
        return self._dataset(
            leaf.characters(table["x"][:]), leaf.next_character(table["y"][:]), persons, names, None
        )

    def _dataset(
        self,
        x: np.ndarray,
        y: np.ndarray,
        persons: np.ndarray,
        names: tuple[str, ...],
        is_test: np.ndarray | None,
    ) -> DataSet:
        return DataSet(
            self.name,
            x,
            y,
            tuple(leaf.ALPHABET),
            persons=persons,
            person_names=names,
            is_test=is_test,
            gap=x.shape[1],
        )


@dataclass(frozen=True)
class DigitsByWriter(FileSource):
    """MNIST by who wrote it (QMNIST; Yadav & Bottou 2019): 539 writers of the 60,000 training digits.

    The global test set is MNIST's, by other writers. Digits and writer labels come from two publishers:
    data.root may hold either or both, and what it lacks is looked for in the usual places.
    """

    name: ClassVar[str] = "digits_by_writer"
    lookup: ClassVar[Lookup] = Lookup(
        "digits_by_writer",
        "put qmnist-train-labels-idx2-int.gz of github.com/facebookresearch/qmnist into data.root",
        folders=("qmnist_writer_labels", "qmnist", "QMNIST/raw"),
    )

    def read(self) -> DataSet:
        label_file = "qmnist-train-labels-idx2-int"
        known = QMNIST_SUM if self.verify else None
        file = self.file(label_file, sha256=known) or self.lookup.find(None, label_file, sha256=known)
        if file is None:
            raise self.missing(f"file {label_file}.gz")
        digits = Mnist(root=self.root, verify=self.verify)
        if digits.file(IDX_NAMES["x"]) is None:
            digits = replace(digits, root=None)
        table, pool = read_idx(file), digits.read()
        if table.ndim != 2 or table.shape[1] < 3 or not np.array_equal(table[:, 0], pool.y):
            raise file.broken("does not describe these MNIST images, row for row")
        writers, persons = np.unique(table[:, 2].astype(np.int64), return_inverse=True)
        names = tuple(f"w{writer:04d}" for writer in writers)
        return replace(pool, name=self.name, persons=persons, person_names=names)


@dataclass(frozen=True)
class Har(FileSource):
    """UCI HAR: windows of 9 x 128 accelerometer and gyroscope readings of 30 people, all of whom are clients.

    Windows of one recording overlap by half, so a recording lies in one split of a client whole. The official
    split is by person and not used: the global test set is all clients' own test splits.

    features: `signals` are the windows; `statistics` are 18 columns, `readers.har.statistics` of them
    """

    features: str = "signals"

    name: ClassVar[str] = "har"
    lookup: ClassVar[Lookup] = Lookup(
        "har",
        "unpack 'UCI HAR Dataset.zip' of archive.ics.uci.edu/dataset/240 into data.root",
        folders=("har", "uci_har"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features not in FEATURES:
            raise ConfigError(f"data.features={self.features}, expected {' or '.join(FEATURES)}")

    def read(self) -> DataSet:
        windows = self._windows()
        x = statistics(windows.x) if self.features == "statistics" else windows.x
        numbers, persons = np.unique(windows.persons, return_inverse=True)
        names = tuple(f"person {number:02d}" for number in numbers)
        return DataSet(
            self.name,
            x,
            windows.y,
            ACTIVITIES,
            persons=persons,
            person_names=names,
            blocks=windows.segments,
        )

    def _windows(self) -> Windows:
        file = self.file("uci_har_inertial.npz", sha256=HAR_SUM)
        if file is not None:
            return read_har_npz(file)
        for inside in ("UCI HAR Dataset", "."):
            folder = self.lookup.folder(self.root, f"{inside}/train/Inertial Signals")
            if folder is not None:
                return read_har_text(folder / inside, self.lookup.how)
        raise self.missing("folder 'UCI HAR Dataset' (or uci_har_inertial.npz)")
