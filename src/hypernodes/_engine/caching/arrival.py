"""Code that has come to a worker: whether it is that of the driver, and where it is found."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from hypernodes.cache._exact import ExactSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hypernodes._engine.caching.codes import CodeReader
    from hypernodes._engine.caching.prepared import Doubt, Oath

_MAIN: Final = "__main__"

_sworn: Final[set[tuple[str, str]]] = set()
"""What code in this process, a worker, has been found to be the same as in its driver."""


def welcome(reader: CodeReader, oath: Oath) -> Oath:
    """Return what is not the same here as where an oath was made.

    What has once been the same here stays so, whatever it does to its module meanwhile: code
    that is new is a new oath. What has come by value is found by its name from now on, so that
    instances of its classes can be kept, and read, as in the driver.

    Args:
        reader: Reads the code.
        oath: As it was read there.
    """
    if _sworn.issuperset(oath) and not any(name.startswith(_MAIN) for name, _ in oath):
        return ()
    snapshot = ExactSnapshot()
    here = reader.read_exactly(snapshot)
    _adopt(snapshot.classes)
    others = [there for there, own in zip(oath, here, strict=True) if there != own]
    strangers = tuple(there for there in others if there not in _sworn)
    _sworn.update(set(oath).difference(strangers))
    return strangers


def _adopt(classes: Iterable[type]) -> None:
    """Let classes of the driver's `__main__` be found in that of this process."""
    main = vars(sys.modules[_MAIN])
    for each in classes:
        if each.__module__ == _MAIN and "." not in each.__qualname__:
            main[each.__name__] = each


def other_code(names: Sequence[str], *, is_lasting: bool) -> Doubt:
    """Return why nothing is kept of functions that are not the same in a worker.

    Args:
        names: The functions.
        is_lasting: Whether such a worker is not replaced by a new one.
    """
    old = (
        "perhaps the workers imported it before the file was changed, and run the old code until "
        "they are started again (Dask: client.restart(), Ray: close() of the executor or backend); "
    )
    message = (
        f"{', '.join(names)}: not the same in worker processes as here, so nothing is kept of this "
        f"run; {old if is_lasting else ''}perhaps the file has changed since it was imported here "
        f"(reload the module), or a value that the code uses was changed here while the program "
        f"runs (pass it in as an input)"
    )
    return ("code", *names), message
