"""Code as it runs here, to be compared with that in another process of this interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypernodes.cache._code import CodeSnapshot
from hypernodes.cache._names import read_bytecode
from hypernodes.cache._parts import Manner
from hypernodes.cache._uses import Contents, contents

if TYPE_CHECKING:
    from hypernodes.cache._walk import Identify

__all__ = ["ExactSnapshot"]

_ANYTHING: Final = b"anything"
_WITHOUT_IDENTITY: Final = object()


class ExactSnapshot(CodeSnapshot):
    """A snapshot by bytecode: a source may have changed since, or be out of reach in a worker.

    What has no stable identity is alike everywhere, and like None: models and connections are
    often made when they are first needed, in each process by itself.

    Example:
        >>> ExactSnapshot().describe(len) == ExactSnapshot().describe(len)
        True
    """

    _manner = Manner.EXACT

    @property
    def classes(self) -> list[type]:
        """The classes of the user's that were met."""
        return [each for each in self._kept if isinstance(each, type)]

    def _contents(self, definition: Any) -> Contents:
        found = contents(definition, self._label_of, read_bytecode)
        uses = [(n, _WITHOUT_IDENTITY if value is None else value) for n, value in found.uses]
        return found._replace(uses=uses)

    def _stand_in(self, part: Any, identify: Identify) -> bytes:
        del part, identify
        return _ANYTHING
