"""LazyArray: an `Array` to everybody, without its bytes until somebody asks."""

import pickle

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from clients.arrays import (
    LazyArray,
    as_ndarray,
    nbytes,
    record_from_arrays,
    record_from_tensors,
    tensors_from_record,
)

VALUES = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array(7, dtype=np.int64),
    np.zeros((0, 3), np.float16),
    np.array([True, False]),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(10)[::2],
]


@pytest.mark.parametrize("values", VALUES, ids=lambda v: f"{v.dtype}{v.shape}")
def test_is_the_array_that_flower_makes(values: np.ndarray) -> None:
    lazy, stock = LazyArray(values), Array(np.ascontiguousarray(values).reshape(values.shape))
    assert (lazy.dtype, lazy.shape, lazy.stype, lazy.data) == (
        stock.dtype,
        stock.shape,
        stock.stype,
        stock.data,
    )
    assert lazy.object_id == stock.object_id
    assert lazy == stock and stock == lazy and lazy == Array(values)
    np.testing.assert_array_equal(as_ndarray(Array(values)), values)


@pytest.mark.parametrize("values", VALUES, ids=lambda v: f"{v.dtype}{v.shape}")
@pytest.mark.parametrize("protocol", [2, 5])
def test_pickle_round_trip(values: np.ndarray, protocol: int) -> None:
    lazy = pickle.loads(pickle.dumps(LazyArray(values), protocol=protocol))
    assert isinstance(lazy, LazyArray) and lazy == LazyArray(values)


def test_pickle_keeps_memory_out_of_band() -> None:
    values, buffers = np.ones(1000), list[pickle.PickleBuffer]()
    data = pickle.dumps(LazyArray(values), protocol=5, buffer_callback=buffers.append)
    assert len(data) < 300 and len(buffers) == 1
    assert np.shares_memory(pickle.loads(data, buffers=buffers).ndarray, values)


def test_survives_flowers_object_transport() -> None:
    records = RecordDict({"arrays": record_from_arrays({str(i): v for i, v in enumerate(VALUES)})})
    contents = {key: thing.deflate() for key, thing in get_all_nested_objects(records).items()}
    restored = inflate_object_from_contents(records.object_id, contents)
    assert isinstance(restored, RecordDict)
    for i, values in enumerate(VALUES):
        array = restored["arrays"][str(i)]
        assert type(array) is Array
        np.testing.assert_array_equal(array.numpy(), values)


def test_numpy_is_the_memory_itself_unless_it_is_read_only() -> None:
    values = np.ones(3)
    assert LazyArray(values).numpy() is values
    values.flags.writeable = False
    copy = LazyArray(values).numpy()
    copy[:] = 2
    assert values.tolist() == [1, 1, 1]


def test_record_is_a_snapshot_of_the_tensors() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    snapshot, view = record_from_tensors({"w": weight}), record_from_tensors({"w": weight}, copy=False)
    with torch.no_grad():
        weight += 1
    assert snapshot["w"].numpy().tolist() == [[1, 1], [1, 1]]
    assert view["w"].numpy().tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3),
        torch.arange(4),
        torch.tensor([1.5, 2.5], dtype=torch.float16),
        torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).to(
            memory_format=torch.channels_last
        ),
        torch.tensor([True]),
    ],
    ids=lambda t: str(t.dtype),
)
def test_tensors_round_trip(tensor: torch.Tensor) -> None:
    restored = tensors_from_record(record_from_tensors({"t": tensor}))["t"]
    assert restored.dtype == tensor.dtype and restored.shape == tensor.shape and torch.equal(restored, tensor)


def test_bfloat16_travels_as_float32() -> None:
    tensor = torch.tensor([1.0, 1.0078125], dtype=torch.bfloat16)
    restored = tensors_from_record(record_from_tensors({"t": tensor}))["t"]
    assert restored.dtype is torch.float32 and torch.equal(restored.bfloat16(), tensor)


def test_tensors_from_read_only_memory_and_stock_arrays() -> None:
    values = np.ones(3)
    values.flags.writeable = False
    copied = tensors_from_record(record_from_arrays({"w": values}))["w"]
    copied += 1
    assert values.tolist() == [1, 1, 1] and copied.tolist() == [2, 2, 2]
    stock = ArrayRecord([np.array([1, 2])])
    assert tensors_from_record(stock, copy=False)["0"].tolist() == [1, 2]


def test_nbytes_counts_values_only() -> None:
    ours = record_from_arrays({"w": np.zeros((2, 3), np.float32), "s": np.array(1.0)})
    assert [nbytes(array) for array in ours.values()] == [24, 8]
    assert [nbytes(array) for array in ArrayRecord([np.zeros(5, np.int64)]).values()] == [40]
