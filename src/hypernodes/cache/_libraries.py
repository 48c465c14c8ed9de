"""How objects of libraries are taken apart: numpy, pandas, pyarrow, torch, pydantic, Dask, Ray.

Their modules are there when an object of theirs is. Rules go by package and name of a class: the
modules in between move from release to release.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from hypernodes.cache._encoding import buffer_leaf
from hypernodes.cache._origin import module_name, package_name
from hypernodes.cache._parts import (
    NoStableIdentityError,
    Parts,
    Rule,
    attribute_labels,
    refused,
    with_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CODE_FAMILIES", "FAMILIES"]


def _kind(value: Any) -> Any:
    """Return what tells the type: the name, or the class itself where a user derived one."""
    cls = type(value)
    return cls.__name__ if package_name(module_name(cls)) in _LIBRARIES else cls


def _shown(value: Any) -> dict[str, Any]:
    """Return what a user, or a user's class, has put on a library's object."""
    found = {name: getattr(value, name, None) for name in getattr(value, "_metadata", ())}
    accessors = getattr(value, "_accessors", ())
    own = getattr(value, "__dict__", {})
    return found | {name: own[name] for name in own if name[:1] != "_" and name not in accessors}


def _ndarray(value: Any) -> Parts | bytes:
    numpy = sys.modules["numpy"]
    if type(value) not in (numpy.ndarray, numpy.memmap):
        base = value.view(numpy.ndarray)
        return Parts(b"numpy subclass", (_kind(value), base, getattr(value, "__dict__", None)))
    dtype = value.dtype
    if dtype.names is not None:
        # Field by field: the bytes between the fields are whatever was in memory.
        fields = [value[name] for name in dtype.names]
        return Parts(b"numpy structured", (value.shape, dtype, *fields))
    if dtype.metadata:
        return Parts(b"numpy described", (dtype, value.view(numpy.dtype(dtype.str))))
    if dtype.kind not in "biufcmMSUV" or dtype.hasobject:
        return Parts(b"numpy objects", (str(dtype), value.shape, value.ravel().tolist()))
    tag = f"{dtype.str} {dtype.name} {value.shape}".encode()
    return b"a" + buffer_leaf(tag, _raw(value))


def _raw(value: Any) -> Any:
    """Return the bytes of an array in C order, without a copy where they lie so."""
    numpy = sys.modules["numpy"]
    return numpy.ascontiguousarray(value).reshape(-1).view("u1") if value.nbytes else b""


def _masked_array(value: Any) -> Parts:
    numpy = sys.modules["numpy"]
    facts = value.fill_value, value.hardmask, _shown(value)
    return Parts(b"numpy masked", (_kind(value), value.data, numpy.ma.getmaskarray(value), *facts))


def _numpy_scalar(value: Any) -> Parts:
    numpy = sys.modules["numpy"]
    return Parts(b"numpy scalar", (_kind(value), numpy.asarray(value)))


def _numpy_dtype(value: Any) -> Parts:
    fields = value.fields and [(name, *value.fields[name]) for name in value.names]
    subtype = value.subdtype if fields is None else None
    facts = value.metadata and dict(value.metadata), fields, subtype
    return Parts(b"numpy dtype", (value.str, value.name, value.itemsize, *facts))


def _data_frame(value: Any) -> Parts:
    arrays = [column.array for _, column in value.items()]
    children = (_kind(value), value.columns, value.index, _besides(value), *arrays)
    return Parts(b"pandas frame", children, label=_frame_label)


def _frame_label(children: Sequence[Any], index: int) -> str:
    return f"[{children[1][index - 4]!r}]" if index > 3 else ""  # noqa: PLR2004  # as just above


def _series(value: Any) -> Parts:
    children = (_kind(value), value.name, value.index, _besides(value), value.array)
    return Parts(
        b"pandas series", children, label=attribute_labels("", "name", "index", "", "array")
    )


def _besides(value: Any) -> dict[str, Any]:
    """Return what a frame or series has beside its data."""
    named = {f".{name}": part for name, part in _shown(value).items()}
    return {**named, "attrs": value.attrs, "unique": not value.flags.allows_duplicate_labels}


def _index(value: Any) -> Parts:
    frequency = getattr(value, "freqstr", None)
    return Parts(b"pandas index", (_kind(value), list(value.names), frequency, value.array))


def _range_index(value: Any) -> Parts:
    return Parts(b"pandas range", (list(value.names), value.start, value.stop, value.step))


def _multi_index(value: Any) -> Parts:
    return Parts(b"pandas multiindex", (list(value.names), *value.levels, *value.codes))


def _pandas_array(value: Any) -> Parts:
    """Take apart a column; what its dtype tells apart, counts."""
    dtype = str(value.dtype)
    if hasattr(value, "asi8"):
        return Parts(b"pandas times", (dtype, value.asi8))
    if hasattr(value, "codes"):
        return Parts(b"pandas categories", (value.ordered, value.categories, value.codes))
    if type(value).__name__.startswith("Arrow"):
        return Parts(b"pandas arrow", (dtype, value.__arrow_array__()))
    numbers = isinstance(value.dtype, sys.modules["numpy"].dtype)
    content = value.to_numpy() if numbers else value.to_numpy(dtype=object)
    return Parts(b"pandas array", (dtype, content))


def _arrow_table(value: Any) -> Parts:
    return Parts(b"arrow table", (_kind(value), value.schema, *value.columns))


def _arrow_schema(value: Any) -> Parts:
    return Parts(b"arrow schema", (list(value), value.metadata))


def _arrow_field(value: Any) -> Parts:
    return Parts(b"arrow field", (value.name, value.type, value.nullable, value.metadata))


def _arrow_chunks(value: Any) -> Parts:
    whole = value.chunk(0) if value.num_chunks == 1 else value.combine_chunks()
    return Parts(b"arrow chunked", (value.type, whole))


def _arrow_array(value: Any) -> Parts:
    """Take apart an array into which items are null and what the others are.

    What lies under a null, an offset or in a dictionary does not count.
    """
    present = value.drop_null()
    nulls = value.is_null().cast("uint8") if value.null_count else None
    nulls = nulls and _arrow_buffer(nulls, 1)
    return Parts(b"arrow array", (value.type, len(value), nulls, *_arrow_content(present)))


def _arrow_content(value: Any) -> Sequence[Any]:
    """Return what an array without nulls holds, as buffers, further arrays or Python's values."""
    kinds = importlib.import_module("pyarrow").types
    kind = value.type
    if kinds.is_dictionary(kind):
        return (value.dictionary_decode(),)
    if hasattr(value, "storage"):
        return (value.storage,)
    if kinds.is_struct(kind):
        return tuple(value.flatten())
    if kinds.is_boolean(kind):
        return (_arrow_buffer(value.cast("uint8"), 1),)
    if kinds.is_primitive(kind) or kinds.is_decimal(kind) or kinds.is_fixed_size_binary(kind):
        return (_arrow_buffer(value, kind.bit_width // 8),)
    return _arrow_lists(value, kinds)


def _arrow_lists(value: Any, kinds: Any) -> Sequence[Any]:
    compute = importlib.import_module("pyarrow.compute")
    kind = value.type
    if kinds.is_list(kind) or kinds.is_large_list(kind):
        return compute.list_value_length(value), value.flatten()
    if kinds.is_fixed_size_list(kind):
        return (value.flatten(),)
    texts = (kinds.is_string, kinds.is_binary, kinds.is_large_string, kinds.is_large_binary)
    if any(is_text(kind) for is_text in texts):
        return compute.binary_length(value), _arrow_text(value)
    return (value.to_pylist(),)


def _arrow_buffer(value: Any, width: int) -> memoryview:
    buffer = value.buffers()[1]
    return memoryview(buffer.slice(value.offset * width, len(value) * width) if buffer else b"")


def _arrow_text(value: Any) -> memoryview:
    _, offsets, content = value.buffers()
    if not len(value) or content is None:
        return memoryview(b"")
    raw = memoryview(offsets).cast("B")
    places = raw.cast("q") if "large" in str(value.type) else raw.cast("i")
    first, last = places[value.offset], places[value.offset + len(value)]
    return memoryview(content.slice(first, last - first))


def _arrow_scalar(value: Any) -> Parts:
    return Parts(b"arrow scalar", (value.type, value.as_py()))


def _arrow_type(value: Any) -> Parts:
    return Parts(b"arrow type", (str(value), *map(value.field, range(value.num_fields))))


def _tensor(value: Any) -> Parts:
    torch = sys.modules["torch"]
    if value.layout is not torch.strided or value.is_quantized:
        raise NoStableIdentityError(type(value))
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    facts = (str(value.dtype), tuple(value.shape), value.device.type, value.requires_grad)
    content = plain.reshape(-1).view(torch.uint8).numpy()
    return Parts(b"torch tensor", (_kind(value), facts, content))


def _dask_future(value: Any) -> Parts:
    """Take apart what Dask has named after what computes it; users may give a name twice."""
    name, *rest = value.key if isinstance(value.key, tuple) else (value.key,)
    if _TOKEN.search(str(name)) is None:
        raise NoStableIdentityError(type(value))
    return Parts(b"dask future", (name, *rest))


def _pydantic_model(value: Any) -> Parts:
    """Take apart a model; which fields were set shows when it is dumped."""
    return with_attributes(b"pydantic", type(value), _fields(value))


def _whole_pydantic_model(value: Any) -> Parts:
    found = {**_fields(value), "__pydantic_private__": value.__pydantic_private__}
    return with_attributes(b"pydantic", type(value), found)


def _fields(value: Any) -> dict[str, Any]:
    known = type(value).model_fields
    fields = {name: part for name, part in vars(value).items() if name in known}
    others = value.__pydantic_extra__ or {}
    return {**others, **fields, "__pydantic_fields_set__": value.__pydantic_fields_set__}


_TOKEN: Final = re.compile("-[0-9a-f]{32}$")
_LIBRARIES: Final = frozenset({"numpy", "pandas", "pyarrow", "torch"})
FAMILIES: Final[dict[str, Rule]] = {
    "asyncio.AbstractEventLoop": refused,
    "concurrent.Executor": refused,
    "concurrent.Future": refused,
    "distributed.Future": _dask_future,
    "logging.Handler": refused,
    "logging.Logger": refused,
    "logging.LoggerAdapter": refused,
    "numpy.MaskedArray": _masked_array,
    "numpy.dtype": _numpy_dtype,
    "numpy.generic": _numpy_scalar,
    "numpy.ndarray": _ndarray,
    "pandas.DataFrame": _data_frame,
    "pandas.ExtensionArray": _pandas_array,
    "pandas.Index": _index,
    "pandas.MultiIndex": _multi_index,
    "pandas.RangeIndex": _range_index,
    "pandas.Series": _series,
    "pyarrow.Array": _arrow_array,
    "pyarrow.ChunkedArray": _arrow_chunks,
    "pyarrow.DataType": _arrow_type,
    "pyarrow.Field": _arrow_field,
    "pyarrow.RecordBatch": _arrow_table,
    "pyarrow.Scalar": _arrow_scalar,
    "pyarrow.Schema": _arrow_schema,
    "pyarrow.Table": _arrow_table,
    "pydantic.BaseModel": _pydantic_model,
    "ray.ObjectRef": refused,
    "threading.Thread": refused,
    "torch.Tensor": _tensor,
}

# Those that tell more apart in code.
CODE_FAMILIES: Final[dict[str, Rule]] = {"pydantic.BaseModel": _whole_pydantic_model}
