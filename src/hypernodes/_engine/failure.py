"""What goes wrong, as a value: `Failure`, and the notes that an error takes along."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypernodes.exceptions import HyperNodesError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """The place of an item that failed, in the results of a map with `on_error="return"`.

    Attributes:
        error: What was raised.
        index: The item's index in the map; None outside of a map.
        node: The name of the node that raised.
        path: The names from the outermost pipeline to the node.
        inputs: The item's own inputs.
        attempts: How often the node was tried.
    """

    error: Exception
    index: int | None = None
    node: str | None = None
    path: tuple[str, ...] = ()
    inputs: Mapping[str, Any] | None = None
    attempts: int = 1

    def at_item(self, index: int, inputs: Mapping[str, Any]) -> Failure:
        """Return this failure as that of an item."""
        return replace(self, index=index, inputs=inputs)


Outcome = dict[str, Any] | Failure
"""What a run gives: the outputs by name, or what failed."""

Given = dict[int, Any] | Failure
"""What a segment gives: values by slot, or what failed."""


class Faulted(Exception):  # noqa: N818 - never seen by a user: it only carries a failure
    """Carries a failure whose place is known through the frames of an outer plan."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def error_of(error: BaseException) -> BaseException:
    """Return the user's error: what a failure carries, or `error` itself."""
    return error.failure.error if isinstance(error, Faulted) else error


def annotate(error: BaseException, note: str, instead_of: str | None = None) -> None:
    """Add `note` to `error` once (the same exception may be raised again and again).

    Args:
        error: What was raised.
        note: What to add.
        instead_of: A note that says less and goes.
    """
    with suppress(Exception):  # an exception class may refuse to be changed
        notes = getattr(error, "__notes__", [])
        if instead_of in notes:
            notes.remove(instead_of)
        if note not in notes:
            error.add_note(note)


def node_note(path: tuple[str, ...], index: int | None) -> str:
    """Return the note that says where an error came from."""
    item = "" if index is None else f", item {index}"
    return f"hypernodes: in node {path[-1]!r} of pipeline {_spelled(path[:-1])}{item}"


def note_item(failure: Failure, path: tuple[str, ...], index: int) -> None:
    """Add to the error which item it came up in.

    Args:
        failure: What came up somewhere below.
        path: Where the map stands.
        index: The item.
    """
    error = failure.error
    plain = node_note(failure.path, None) if failure.path else None
    if plain is not None and plain in getattr(error, "__notes__", ()):
        annotate(error, node_note(failure.path, index), instead_of=plain)
    else:  # it came up in an item of a map inside, or under an executor that does not tell
        annotate(error, _item_note(path, index))


def renumbered(failure: Failure, path: tuple[str, ...], index: int) -> Failure:
    """Return the failure of an item that was mapped under another index, with what its error tells.

    Args:
        failure: What failed.
        path: Where the map stands.
        index: The item's own.
    """
    error, before = failure.error, failure.index
    if before is None or before == index:
        return replace(failure, index=index)
    notes = getattr(error, "__notes__", ())
    if _item_note(path, before) in notes:
        annotate(error, _item_note(path, index), instead_of=_item_note(path, before))
    elif failure.path and _item_note(path, index) not in notes:
        annotate(error, node_note(failure.path, index), instead_of=node_note(failure.path, before))
    if isinstance(error, HyperNodesError) and getattr(error, "index", None) == before:
        error.args = (str(error).replace(f"item {before}", f"item {index}", 1), *error.args[1:])
        setattr(error, "index", index)  # noqa: B010 - a fact of some of them
    return replace(failure, index=index)


def _item_note(path: tuple[str, ...], index: int) -> str:
    return f"hypernodes: in item {index} of pipeline {_spelled(path)}"


def _spelled(path: tuple[str, ...]) -> str:
    return repr(" > ".join(path))


_ORIGIN = "__hypernodes_origin__"


def remember(failure: Failure) -> Exception:
    """Return the failure's error, ready to be raised: it remembers where it came from."""
    with suppress(Exception):
        setattr(failure.error, _ORIGIN, (failure.node, failure.path, failure.attempts))
    return failure.error


def recall(error: Exception, path: tuple[str, ...]) -> Failure | None:
    """Return the failure that `error` comes from, if it came up below `path`."""
    origin = getattr(error, _ORIGIN, None)
    if origin is None or origin[1][: len(path)] != path:
        return None
    return Failure(error, node=origin[0], path=origin[1], attempts=origin[2])


def outputs_of(outcome: Outcome) -> dict[str, Any]:
    """Return the outputs, or raise what failed, as its own type."""
    if not isinstance(outcome, Failure):
        return outcome
    try:
        raise remember(outcome)
    finally:
        del outcome  # the error holds this frame through its traceback
