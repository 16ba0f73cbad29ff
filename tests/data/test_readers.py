import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from fedkd.data.files import DataFile, Lookup
from fedkd.data.readers import leaf
from fedkd.data.readers.adult import Encoder, income, read_adult
from fedkd.data.readers.cifar import as_records, read_cifar, read_labels, read_picture, refuse_pickles
from fedkd.data.readers.har import SIGNALS, read_har_npz, read_har_text, segments_of, statistics
from fedkd.data.readers.idx import read_idx
from fedkd.errors import ConfigError


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def file(path: Path, content: bytes) -> DataFile:
    path.write_bytes(content)
    return DataFile(path, "from somewhere")


def test_idx_plain_and_gzip(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(read_idx(file(tmp_path / "a", idx(images))), images)
    assert np.array_equal(read_idx(file(tmp_path / "a.gz", gzip.compress(idx(images)))), images)
    words = np.array([[1, -2], [70_000, 3]], ">i4")
    assert read_idx(file(tmp_path / "b", idx(words, 12))).tolist() == [[1, -2], [70_000, 3]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no IDX file"),
        (b"not idx at all", "no IDX file"),
        (b"\0\0\x08\3\0\0\0\2", "ends inside its IDX header"),
        (idx(np.zeros((2, 2), np.uint8))[:-1], r"holds 15 bytes, its header says 16 for the shape \(2, 2\)"),
    ],
)
def test_idx_refuses_what_is_truncated_or_something_else(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"broken.* {said}.*; get a good copy: from somewhere"):
        read_idx(file(tmp_path / "broken", content))


def records(labels: list[list[int]]) -> tuple[np.ndarray, bytes]:
    x = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    return x, b"".join(bytes(y) + x[i].tobytes() for i, y in enumerate(labels))


def test_cifar_binary(tmp_path: Path) -> None:
    x, content = records([[3], [9]])
    read, y = read_cifar(file(tmp_path / "a.bin", content), 1, 10)
    assert np.array_equal(read, x) and y.tolist() == [3, 9]
    assert as_records(read, y) == content
    x, content = records([[19, 99], [0, 4]])
    read, y = read_cifar(file(tmp_path / "b.bin", content), 2, 100)
    assert np.array_equal(read, x) and y.tolist() == [99, 4]  # the fine label


def test_cifar_refuses(tmp_path: Path) -> None:
    _, content = records([[3], [10]])
    with pytest.raises(ConfigError, match="holds 6145 bytes, expected a multiple of 3073"):
        read_cifar(file(tmp_path / "a.bin", content[:-1]), 1, 10)
    with pytest.raises(ConfigError, match="has the label 10, expected less than 10"):
        read_cifar(file(tmp_path / "a.bin", content), 1, 10)
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py/data_batch_1").write_bytes(b"\x80\x02")
    with pytest.raises(
        ConfigError, match=r"data_batch_1 is the Python version \(pickle\).*binary version: from"
    ):
        refuse_pickles(Lookup("cifar10", "from there"), str(tmp_path), "cifar-10-batches-py", "data_batch_1")


def test_cifar_pictures_are_the_same_records(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    x, _ = records([[0], [1]])
    image.fromarray(x.reshape(2, 3, 1024).transpose(0, 2, 1)).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(DataFile(tmp_path / "a.png", ""), 2), x)
    with pytest.raises(ConfigError, match="expected \\(5, 1024, 3\\)"):
        read_picture(DataFile(tmp_path / "a.png", ""), 5)
    assert read_labels(file(tmp_path / "l.json", b"[6, 9]"), 2).tolist() == [6, 9]
    with pytest.raises(ConfigError, match="lists 2 labels, expected 3"):
        read_labels(file(tmp_path / "l.json", b"[6, 9]"), 3)


def leaf_folder(root: Path, parts: dict[str, dict[str, dict[str, list]]]) -> Path:
    for part, users in parts.items():
        (root / part).mkdir(parents=True, exist_ok=True)
        content = {
            "users": list(users),
            "num_samples": [len(u["y"]) for u in users.values()],
            "user_data": users,
        }
        (root / part / "all_data.json").write_text(json.dumps(content))
    return root


def test_leaf_images(tmp_path: Path) -> None:
    white, ink = [1.0] * 784, [0.0] * 783 + [0.502]
    folder = leaf_folder(
        tmp_path,
        {
            "train": {"w2": {"x": [white], "y": [7]}, "w1": {"x": [ink, white], "y": [1, 2]}},
            "test": {"w1": {"x": [white], "y": [3]}},
        },
    )
    found = leaf.read_leaf(folder, "", leaf.pixels, leaf.labels)
    assert found.users == ("w1", "w2")
    assert found.persons.tolist() == [0, 0, 0, 1]
    assert found.y.tolist() == [1, 2, 3, 7]
    assert found.is_test.tolist() == [False, False, True, False]
    assert found.x.shape == (4, 1, 28, 28) and found.x.dtype == np.uint8
    assert found.x[0].max() == 128 and found.x[1].min() == 255


def test_leaf_pixels_that_are_no_bytes_stay_numbers() -> None:
    assert leaf.pixels([[0.4567] * 784]).dtype == np.float32


def test_leaf_text() -> None:
    codes = leaf.characters(["\n ab", "}é—?"])  # an accent and a long dash are none of the 80
    assert codes.tolist() == [[0, 1, 53, 54], [79, 1, 1, 24]]
    assert leaf.next_character(["a"]).tolist() == [53]
    assert len(leaf.ALPHABET) == 80


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"users": ["a"], "user_data": {}}',
        b'{"users": ["a"], "user_data": {"a": {"x": [[1]], "y": [1]}}}',
    ],
)
def test_leaf_refuses(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a.json is no LEAF JSON.*; get a good copy: here"):
        leaf.read_leaf(tmp_path, "here", leaf.pixels, leaf.labels)


def har_windows() -> np.ndarray:
    """Five windows: a recording of three (each half of the next), then two recordings of one."""
    signal = np.random.default_rng(0).normal(size=(9, 5000))
    return np.stack([signal[:, s : s + 128] for s in (0, 64, 128, 1000, 2000)])


def test_segments_follow_the_overlap() -> None:
    x = har_windows()
    assert segments_of(x, np.array([1, 1, 1, 1, 1])).tolist() == [0, 0, 0, 1, 2]
    assert segments_of(x, np.array([1, 1, 2, 2, 2])).tolist() == [0, 0, 1, 2, 3]


def test_har_text_layout(tmp_path: Path) -> None:
    x = har_windows()
    for part, rows in (("train", slice(0, 3)), ("test", slice(3, 5))):
        folder = tmp_path / part / "Inertial Signals"
        folder.mkdir(parents=True)
        for channel, name in enumerate(SIGNALS):
            np.savetxt(folder / f"{name}_{part}.txt", x[rows, channel], fmt="%16.7e")
        np.savetxt(tmp_path / part / f"y_{part}.txt", np.array([1, 1, 1, 6, 5])[rows], fmt="%d")
        np.savetxt(tmp_path / part / f"subject_{part}.txt", np.array([7, 7, 7, 2, 2])[rows], fmt="%d")
    found = read_har_text(tmp_path, "")
    assert found.x.shape == (5, 9, 128) and found.x.dtype == np.float32
    assert np.allclose(found.x, x, atol=1e-6)
    assert found.y.tolist() == [0, 0, 0, 5, 4] and found.persons.tolist() == [7, 7, 7, 2, 2]
    assert found.segments.tolist() == [0, 0, 0, 1, 2]
    (tmp_path / "test/y_test.txt").write_text("6\n")
    with pytest.raises(ConfigError, match="different lengths"):
        read_har_text(tmp_path, "")
    (tmp_path / "test/y_test.txt").unlink()
    with pytest.raises(ConfigError, match=r"y_test.txt cannot be read"):
        read_har_text(tmp_path, "")


def test_har_npz(tmp_path: Path) -> None:
    x = har_windows().astype(np.float32)
    path = tmp_path / "a.npz"
    y, subject, segment = np.zeros(5, np.uint8), np.ones(5, np.uint8), np.arange(5)
    np.savez(path, x=x, y=y, subject=subject, segment=segment)
    assert np.array_equal(read_har_npz(DataFile(path, "")).x, x)
    np.savez(path, x=x[:, :, :100], y=y, subject=subject, segment=segment)
    with pytest.raises(ConfigError, match="expected \\(N, 9, 128\\)"):
        read_har_npz(DataFile(path, ""))


ADULT = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, "
    "2174, 0, 40, United-States, <=50K\n"
    "52, ?, 209642, HS-grad, 9, Married-civ-spouse, ?, Husband, White, Male, 0, 0, 45, United-States, >50K\n"
)


def test_adult(tmp_path: Path) -> None:
    train = read_adult(file(tmp_path / "adult.data", ADULT.encode()))
    remark = "|1x3 Cross validator\n" + ADULT.replace("50K\n", "50K.\n").replace("State-gov", "Never-worked")
    test = read_adult(file(tmp_path / "adult.test", remark.encode()))
    assert income(train).tolist() == income(test).tolist() == [0, 1]
    encoder = Encoder.of(train)
    assert encoder.categories["workclass"] == ["?", "State-gov"]
    x = encoder.features(train)
    assert x[0, :6].tolist() == [39, 77516, 13, 2174, 0, 40]
    assert x[:, 6:8].tolist() == [[0, 1], [1, 0]]  # workclass ?, State-gov
    assert encoder.features(test)[0, 6:8].tolist() == [0, 0]  # a category that the pool does not have


@pytest.mark.parametrize("content", ["", "1,2,3\n", ADULT[:-30], ADULT.replace("39", "old")])
def test_adult_refuses(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=r"adult.data is no table of 14 attributes"):
        read_adult(file(tmp_path / "adult.data", content.encode()))


def test_har_statistics_by_hand() -> None:
    x = np.zeros((1, 2, 4), np.float32)
    x[0, 1] = [0, 2, 0, 2]  # mean 1, deviation 1; the first signal stands still
    assert statistics(x)[0] == pytest.approx([0, 1, np.log(0.001), np.log(1.001)], abs=1e-6)
    assert statistics(x).dtype == np.float32
