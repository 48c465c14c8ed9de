"""Exceptions on their way back: in a form that always unpickles.

Plain pickle rebuilds an exception by calling its class, which fails for a class whose `__init__`
takes something else than what it passes on, and then takes down whoever reads it. So the worker
tries first, and otherwise sends the parts.
"""

from __future__ import annotations

import io
import pickle
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

from hypernodes._apart import check
from hypernodes._engine.failure import Failure, annotate
from hypernodes._handles import may_be_in
from hypernodes._home import loads_at_home

if TYPE_CHECKING:
    from collections.abc import Iterator


class PackedError(NamedTuple):
    """An exception in pieces.

    Attributes:
        whole: Its pickle, if that can be read again.
        kind: Else the pickle of its class, or of the nearest base that can travel.
        args: Pickles of its arguments.
        state: Pickles of what stands in its `__dict__`, by name.
        trace: The worker's traceback, as text.
        note: What to know about a stand-in.
        notes: Its notes.
        members: Of a group that cannot be read again as a whole, its exceptions.
        causes: What it was raised from, and what that was raised from, and so on.
        module: The name of the module that could not be imported because of it.
    """

    whole: bytes | None
    kind: bytes
    args: tuple[bytes, ...]
    state: dict[str, bytes]
    trace: str
    note: str | None = None
    notes: tuple[str, ...] = ()
    members: tuple[PackedError, ...] = ()
    causes: tuple[PackedError, ...] = ()
    module: str | None = None


class PackedFailure(NamedTuple):
    """A failure without the inputs of its item, which the driver has."""

    error: PackedError
    node: str | None
    path: tuple[str, ...]
    attempts: int


class WorkerTraceback(Exception):  # noqa: N818 - the cause of an error, for its text
    """Where an error came up in its worker."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def pack_failure(failure: Failure) -> PackedFailure:
    """Return `failure`, ready to travel."""
    error = pack_error(failure.error)
    return PackedFailure(error, failure.node, failure.path, failure.attempts)


def unpack_failure(packed: PackedFailure, index: int | None) -> Failure:
    """Return the failure of an item, still without its inputs."""
    error: Any = unpack_error(packed.error)
    return Failure(error, index, packed.node, packed.path, attempts=packed.attempts)


def pack_error(error: BaseException) -> PackedError:
    """Return `error`, ready to travel."""
    causes = tuple(_parts(cause, _headline(cause)) for cause in _causes(error))
    return _parts(error, _trace(error))._replace(causes=causes)


def pack_load_error(error: BaseException) -> PackedError:
    """Return `error`, which came up as something was read that users made, ready to travel."""
    return pack_error(error)._replace(module=_importing(error))


def _importing(error: BaseException) -> str | None:
    """Return the name of the first module that was being run; the others are imported by it."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    modules = (f.f_globals.get("__name__") for f in frames if f.f_code.co_name == "<module>")
    return next(modules, None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what `error` was raised from, what that was raised from, and so on."""
    seen = {id(error)}
    while (cause := error.__cause__) is not None:
        if isinstance(cause, WorkerTraceback) or id(cause) in seen:
            return
        seen.add(id(cause))
        yield (error := cause)


def _parts(error: BaseException, trace: str) -> PackedError:
    return _content(error, trace)._replace(notes=_notes(error))


def _content(error: BaseException, trace: str) -> PackedError:
    whole = _dumped(error)
    if whole is not None and _is_same(pickle.loads(whole), error):  # noqa: S301 - our own
        return PackedError(whole, b"", (), {}, trace)
    if isinstance(error, BaseExceptionGroup):
        members = tuple(map(pack_error, error.exceptions))
        return PackedError(None, b"", (pickle.dumps(error.message),), {}, trace, members=members)
    kinds = ((kind, _dumped(kind)) for kind in type(error).__mro__)
    kind, name = next((kind, found) for kind, found in kinds if found is not None)
    if kind is not type(error):
        return _stand_in(error, name, trace)
    values = (_dumped(value) or pickle.dumps(_spelled(value)) for value in error.args)
    state = {key: _dumped(value) for key, value in vars(error).items()}
    kept = {key: value for key, value in state.items() if value is not None}
    return PackedError(None, name, tuple(values), kept, trace)


def _stand_in(error: BaseException, kind: bytes, trace: str) -> PackedError:
    note = f"hypernodes: stands for a {type(error).__qualname__}, which cannot travel"
    return PackedError(None, kind, (pickle.dumps(_spelled(error)),), {}, trace, note)


def _is_same(again: object, error: BaseException) -> bool:
    """Return whether `again`, read from a pickle of `error`, has lost nothing but perhaps notes."""
    return type(again) is type(error) and _spelled(again) == _spelled(error)


def _notes(error: BaseException) -> tuple[str, ...]:
    return tuple(map(_spelled, getattr(error, "__notes__", ())))


def unpack_error(packed: PackedError) -> BaseException:
    """Return the exception; the worker's traceback is the cause of its last cause, or its own."""
    chain = [_with_notes(part) for part in (packed, *packed.causes)]
    for error, cause in zip(chain, (*chain[1:], WorkerTraceback(packed.trace)), strict=True):
        BaseException.__setattr__(error, "__cause__", cause)
    return chain[0]


def _with_notes(packed: PackedError) -> BaseException:
    try:
        error = _rebuilt(packed)
    except Exception as reason:  # noqa: BLE001 - whatever reading it raised
        error = RuntimeError(packed.trace.strip().rpartition("\n")[2])
        error.add_note(f"hypernodes: stands for an error that cannot be read here: {reason!r}")
    for note in (*packed.notes, packed.note):
        if note is not None:
            annotate(error, note)
    return error


def _rebuilt(packed: PackedError) -> BaseException:
    if packed.whole is not None:
        return loads_at_home(packed.whole)  # type: ignore[no-any-return]
    if packed.members:
        message = loads_at_home(packed.args[0])
        return BaseExceptionGroup(message, [unpack_error(member) for member in packed.members])
    kind = loads_at_home(packed.kind)
    args = [loads_at_home(value) for value in packed.args]
    error: BaseException = kind.__new__(kind, *args)
    BaseException.__init__(error, *args)
    error.__dict__.update({name: loads_at_home(v) for name, v in packed.state.items()})
    return error


def _dumped(value: Any) -> bytes | None:
    """Return a pickle of `value` that can be read, or None."""
    for pickler in (_Pickler, _CloudPickler):
        try:
            file = io.BytesIO()
            pickler(file, protocol=5).dump(value)
            data = file.getvalue()
            if b"__main__" in data and pickler is _Pickler:
                continue
            pickle.loads(data)  # noqa: S301 - only to see whether it can be
            if may_be_in(data):
                check(value)
        except Exception:  # noqa: BLE001, S112 - whatever the user's classes raise
            continue
        return data
    return None


class _Pickler(pickle.Pickler):
    """Pickles exceptions as these say, whatever others have put into `copyreg` for them.

    Where Dask has met an exception, its class is rebuilt without a call of `__init__`, which loses
    what is kept in slots: the code of a `SystemExit`, the name in an `ImportError`.
    """

    def reducer_override(self, obj: object) -> Any:
        return obj.__reduce_ex__(5) if isinstance(obj, BaseException) else NotImplemented


class _CloudPickler(cloudpickle.Pickler):  # type: ignore[misc] # Any to mypy
    """The same for what plain pickle cannot take."""

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, BaseException):
            return obj.__reduce_ex__(5)
        return super().reducer_override(obj)


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - a __str__ that fails
        return type(error).__name__


def _headline(error: BaseException) -> str:
    return f"{type(error).__name__}: {_spelled(error)}"


def _spelled(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001
        return type(value).__name__
