"""Whether an upload has the shapes that its strategy works with: one reply must not end a run."""

from collections.abc import Mapping

from flwr.app import RecordDict
from torch import Tensor

Shape = tuple[int | str, ...]
"""A size that is a name may be any, but the same wherever a reply has that name."""
Layout = Mapping[str, Shape]


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """The layout of a record that is like these tensors."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def misfit(content: RecordDict, wanted: Mapping[str, Layout]) -> str | None:
    """What a reply lacks of the records `wanted`, or has in another shape, in a few words; None: nothing."""
    known: dict[str, int] = {}
    for record, layout in wanted.items():
        arrays = content.array_records.get(record)
        if arrays is None:
            return f"'{record}' is missing"
        if odd := layout.keys() ^ arrays.keys():
            name = min(odd)
            return f"'{record}' {'lacks' if name in layout else 'has the unknown'} '{name}'"
        for name, shape in layout.items():
            found = tuple(arrays[name].shape)
            if not _fits(found, shape, known):
                return f"'{record}' has '{name}' of shape {found}, {_words(shape, known)} is needed"
    return None


def _fits(found: tuple[int, ...], shape: Shape, known: dict[str, int]) -> bool:
    if len(found) != len(shape):
        return False
    wanted = [
        known.setdefault(size, own) if isinstance(size, str) else size
        for own, size in zip(found, shape, strict=True)
    ]
    return list(found) == wanted


def _words(shape: Shape, known: Mapping[str, int]) -> str:
    sizes = [str(known.get(size, size)) if isinstance(size, str) else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
