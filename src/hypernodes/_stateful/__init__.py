"""`@stateful`: values that are described by what makes them, and made where they are used."""

from hypernodes._stateful.decorator import stateful

__all__ = ["stateful"]
