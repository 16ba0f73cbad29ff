"""Flower's records on disk: safetensors for arrays, JSON for the rest, both in one file. Never pickle.

The arrays of all record dictionaries stand in the file under running numbers; what they are called and to
whom they belong is told by `records` in the file's metadata, a JSON text. Every value comes back as it was:
kind of number, order, bytes, NaN.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import safetensors.numpy
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from clients.arrays import NUMPY_STYPE, LazyArray, as_ndarray

_KINDS: dict[str, type[ArrayRecord] | type[MetricRecord] | type[ConfigRecord]] = {
    "arrays": ArrayRecord,
    "metrics": MetricRecord,
    "config": ConfigRecord,
}
_CODES = {"bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64"}
_CODES |= {
    f"{kind}{size}": f"{kind[0].upper()}{size}" for kind in ("int", "uint") for size in (8, 16, 32, 64)
}
_NATIVE = {np.dtype(name): code for name, code in _CODES.items()}
_BYTES = "base64"


def dump(book: Mapping[str, RecordDict], file: BinaryIO) -> dict[str, Any]:
    """Write these record dictionaries; the file's size (`bytes`) and checksum (`sha256`).

    The arrays go from their memory to the file, without the copies of safetensors' own writer.
    """
    tensors: list[np.ndarray] = []
    layout = {
        owner: [[name, *_described(record, tensors)] for name, record in records.items()]
        for owner, records in book.items()
    }
    header: dict[str, Any] = {"__metadata__": {"records": json.dumps(layout)}}
    end = 0
    for place, values in enumerate(tensors):
        start, end = end, end + values.nbytes
        kind = {"dtype": _NATIVE[values.dtype], "shape": list(values.shape)}
        header[str(place)] = kind | {"data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    checksum = hashlib.sha256()
    parts: list[Any] = [len(text).to_bytes(8, "little"), text, *map(_memory, tensors)]
    for part in parts:
        checksum.update(part)
        file.write(part)
    return {"bytes": 8 + len(text) + end, "sha256": checksum.hexdigest()}


def loads(data: bytes) -> dict[str, RecordDict]:
    """The record dictionaries that the bytes of a file hold."""
    size = int.from_bytes(data[:8], "little")
    layout = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["records"])
    tensors = safetensors.numpy.load(data)
    return {
        owner: RecordDict({name: _restored(kind, items, tensors) for name, kind, items in records})
        for owner, records in layout.items()
    }


def copied(records: RecordDict) -> RecordDict:
    """The same with arrays of its own: whoever holds the original may write into it."""
    return RecordDict({name: _copy(record) for name, record in records.items()})


def _copy(record: Any) -> Any:
    if not isinstance(record, ArrayRecord):
        return record
    copy = ArrayRecord()
    for key, array in record.items():
        copy[key] = LazyArray(as_ndarray(array).copy()) if array.stype == NUMPY_STYPE else array
    return copy


def _described(record: Any, tensors: list[np.ndarray]) -> tuple[str, list[Any]]:
    kind = next(name for name, cls in _KINDS.items() if isinstance(record, cls))
    if kind == "arrays":
        return kind, [[key, _stored(array, tensors)] for key, array in record.items()]
    return kind, [[key, _plain(value)] for key, value in record.items()]


def _restored(kind: str, items: list[Any], tensors: Mapping[str, np.ndarray]) -> Any:
    record: Any = _KINDS[kind]()
    for key, value in items:
        record[key] = _array(value, tensors) if kind == "arrays" else _value(value)
    return record


def _stored(array: Array, tensors: list[np.ndarray]) -> Any:
    """Put an array's values among the tensors: its place, or more where they are only bytes to us."""
    place = str(len(tensors))
    values = as_ndarray(array) if array.stype == NUMPY_STYPE else None
    if values is not None and values.dtype in _NATIVE:
        tensors.append(np.asarray(values, order="C"))
        return place
    tensors.append(np.frombuffer(array.data, np.uint8))
    return [place, array.dtype, list(array.shape), array.stype]


def _memory(values: np.ndarray) -> memoryview:
    return values.reshape(-1).view(np.uint8).data


def _array(stored: Any, tensors: Mapping[str, np.ndarray]) -> Array:
    if isinstance(stored, str):
        return LazyArray(tensors[stored])
    place, dtype, shape, stype = stored
    return Array(dtype, tuple(shape), stype, tensors[place].tobytes())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _value(plain: Any) -> Any:
    if isinstance(plain, dict):
        return base64.b64decode(plain[_BYTES])
    return [_value(item) for item in plain] if isinstance(plain, list) else plain
