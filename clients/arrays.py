"""Arrays that travel without being serialised twice.

Flower's `Array` holds the bytes of `np.save`: each hop of a record between strategy, engine and client costs
two conversions. `LazyArray` keeps the ndarray itself and makes those bytes only when asked for `.data`, as
Flower's own transports do; inside the engine it is pickled with protocol 5, its memory out of band.
"""

import functools
import io
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord

NUMPY_STYPE = "numpy.ndarray"

with warnings.catch_warnings():  # torch warns once a process about read-only memory: spend that warning here
    warnings.simplefilter("ignore")
    torch.from_numpy(np.frombuffer(b"\0", np.uint8))


class LazyArray(Array):
    """A Flower `Array` over an ndarray. `.ndarray` is that memory, perhaps read-only; treat it as a constant.

    `.numpy()` can always be written to, as with a plain `Array`: it copies where the memory is read-only
    (the object store, or another client's message) and hands out the ndarray itself where it is not.
    """

    def __init__(self, ndarray: np.ndarray) -> None:
        array = np.asarray(ndarray, order="C")
        self.__dict__.update(ndarray=array, dtype=_name(array.dtype), shape=array.shape, stype=NUMPY_STYPE)

    ndarray: np.ndarray

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The bytes of `np.save`, made anew at each call."""
        buffer = io.BytesIO()
        np.save(buffer, self.ndarray, allow_pickle=False)
        return buffer.getvalue()

    def numpy(self) -> np.ndarray:
        """The array, safe to write to."""
        return self.ndarray if self.ndarray.flags.writeable else self.ndarray.copy()

    def deflate(self) -> bytes:
        """As a plain `Array`: Flower inflates an object by the name of its class."""
        return Array(self.dtype, self.shape, self.stype, self.data).deflate()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array):
            return NotImplemented
        same_kind = (self.dtype, self.shape, self.stype) == (other.dtype, tuple(other.shape), other.stype)
        return same_kind and self.ndarray.tobytes() == as_ndarray(other).tobytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyArray, (self.ndarray,)


@functools.cache
def _name(dtype: np.dtype) -> str:
    """NumPy puts the name together anew at each call: as long as all else about an array takes."""
    return str(dtype)


def as_ndarray(array: Array) -> np.ndarray:
    """The values of any `Array`, to be read: memory is copied only where its format leaves no other way."""
    if isinstance(array, LazyArray):
        return array.ndarray
    if array.stype != NUMPY_STYPE:
        raise TypeError(f"cannot read an array serialised as '{array.stype}'")
    header = io.BytesIO(array.data)
    version = np.lib.format.read_magic(header)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(header)
    flat = np.frombuffer(array.data, dtype, count=int(np.prod(shape)), offset=header.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def nbytes(array: Array) -> int:
    """What an array's values weigh, without touching them; what is no NumPy array weighs its bytes."""
    if isinstance(array, LazyArray):
        return array.ndarray.nbytes
    if array.stype != NUMPY_STYPE:
        return len(array.data)
    return math.prod(array.shape) * np.dtype(array.dtype).itemsize


def record_from_arrays(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """A record over these ndarrays, not copied. (`ArrayRecord(dict)` would serialise every one of them.)"""
    record = ArrayRecord()
    for name, array in arrays.items():
        record[name] = LazyArray(array)
    return record


def record_from_tensors(tensors: Mapping[str, torch.Tensor], copy: bool = True) -> ArrayRecord:
    """A record of tensors, as they are now; `copy=False` where the caller never writes to them again.

    bfloat16, which NumPy does not know, travels as float32: exact, at twice the bytes.
    """
    arrays = {}
    for name, tensor in tensors.items():
        values = tensor.detach().float() if tensor.dtype is torch.bfloat16 else tensor.detach()
        array = values.cpu().numpy()
        shares_memory = values.data_ptr() == tensor.data_ptr() and values.device.type == "cpu"
        arrays[name] = np.array(array, order="C") if copy and shares_memory else array
    return record_from_arrays(arrays)


def tensors_from_record(record: ArrayRecord, copy: bool = True) -> dict[str, torch.Tensor]:
    """CPU tensors of a record; with `copy=False` they share its memory and must only be read."""
    tensors = {name: torch.from_numpy(as_ndarray(array)) for name, array in record.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()} if copy else tensors
