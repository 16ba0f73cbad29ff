"""UCI HAR (Anguita et al., ESANN 2013): the public text layout, and an .npz with the same content.

Windows of 128 readings overlap by half within a recording. The .npz names the recording of each window
(`segment`); in the text layout it is found from the overlap itself: a window continues the one before it
where its first half equals that one's second half, reading for reading.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkd.data.files import DataFile, read_npz

SIGNALS = [f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
LENGTH = 128
STILL = 1e-3


@dataclass(frozen=True)
class Windows:
    """x: (N, 9, 128) float32; y: (N,) int64 from 0; persons: (N,) numbers; segments: (N,) recording."""

    x: np.ndarray
    y: np.ndarray
    persons: np.ndarray
    segments: np.ndarray


def read_har_npz(file: DataFile) -> Windows:
    """The .npz container: x, y, subject, segment."""
    x, y, persons, segments = read_npz(file, "x", "y", "subject", "segment")
    if (
        x.ndim != 3
        or x.shape[1:] != (len(SIGNALS), LENGTH)
        or not len(x) == len(y) == len(persons) == len(segments)
    ):
        raise file.broken(f"has x of shape {x.shape}, expected (N, 9, 128) and N labels, persons, segments")
    return Windows(
        x.astype(np.float32), y.astype(np.int64), persons.astype(np.int64), segments.astype(np.int64)
    )


def read_har_text(folder: Path, how: str) -> Windows:
    """The folder `UCI HAR Dataset`: both official parts in one, since every person is a client."""
    parts = [_part(folder / part, part, how) for part in ("train", "test")]
    x, y, persons = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Windows(x, y, persons, segments_of(x, persons))


def statistics(x: np.ndarray) -> np.ndarray:
    """(N, 2C) float32 of windows x (N, C, L): each signal's mean, then log(deviation + 0.001).

    What a classifier of sensor readings without a body of its own is usually given. The small number keeps
    the logarithm finite where a signal stands still.
    """
    return np.concatenate([x.mean(axis=2), np.log(x.std(axis=2) + STILL)], axis=1, dtype=np.float32)


def segments_of(x: np.ndarray, persons: np.ndarray) -> np.ndarray:
    """(N,) the recording of each window: a new one starts where a window does not overlap the one before."""
    half = x.shape[-1] // 2
    continues = (x[1:, :, :half] == x[:-1, :, half:]).all(axis=(1, 2)) & (persons[1:] == persons[:-1])
    return np.concatenate([[0], np.cumsum(~continues)])


def _part(folder: Path, part: str, how: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    signals = [_numbers(folder / "Inertial Signals" / f"{name}_{part}.txt", how, LENGTH) for name in SIGNALS]
    y = _numbers(folder / f"y_{part}.txt", how, 1)[:, 0].astype(np.int64) - 1
    persons = _numbers(folder / f"subject_{part}.txt", how, 1)[:, 0].astype(np.int64)
    if {len(s) for s in signals} != {len(y)} or len(y) != len(persons):
        raise DataFile(folder, how).broken("has signal, label and subject files of different lengths")
    return np.stack(signals, axis=1).astype(np.float32), y, persons


def _numbers(path: Path, how: str, columns: int) -> np.ndarray:
    """(n, columns) float64 from white-space separated text."""
    file = DataFile(path, how)
    content = file.read()
    try:
        return np.array(content.split(), np.float64).reshape(-1, columns)
    except ValueError as error:
        raise file.broken(f"is no table of {columns} numbers a line") from error
