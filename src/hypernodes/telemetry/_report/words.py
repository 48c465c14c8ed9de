"""Values, errors and figures in words, of bounded length."""

from __future__ import annotations

import reprlib
import traceback
from typing import Any, Final

LONGEST_NAME: Final = 200
LONGEST_VALUE: Final = 600
LONGEST_MESSAGE: Final = 2_000
LONGEST_TRACE: Final = 12_000

_MINUTE: Final = 60
_HOUR: Final = 3600


class _Repr(reprlib.Repr):
    """Spells containers without looking at all of what is in them."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 12
        self.maxdict = self.maxdeque = self.maxarray = 12
        self.maxstring = self.maxlong = self.maxother = LONGEST_VALUE

    def repr_bytes(self, value: bytes, level: int) -> str:
        """Spell as much of bytes as is shown."""
        del level
        return repr(value[: self.maxother])

    def repr_bytearray(self, value: bytearray, level: int) -> str:
        """Spell as much of a bytearray as is shown."""
        del level
        return repr(value[: self.maxother])


_repr: Final = _Repr()


def spelled(value: Any) -> str:
    """Return the `repr` of any value, shortened; of one whose `repr` fails, its type."""
    try:
        return shortened(_repr.repr(value), LONGEST_VALUE)
    except Exception as error:  # noqa: BLE001 - whatever the user's class raises
        return f"<a {type(value).__name__}, whose repr fails: {type(error).__name__}>"


def message_of(error: BaseException) -> str:
    """Return what an error says, shortened."""
    try:
        return shortened(str(error), LONGEST_MESSAGE)
    except Exception:  # noqa: BLE001 - whatever the user's class raises
        return ""


def trace_of(error: BaseException) -> str:
    """Return the traceback of an error, its causes and its notes, shortened in the middle."""
    try:
        text = "".join(traceback.format_exception(error, limit=-40)).strip()
    except Exception:  # noqa: BLE001 - whatever the user's class raises
        return ""
    if len(text) <= LONGEST_TRACE:
        return text
    half = LONGEST_TRACE // 2
    left_out = f"({len(text) - 2 * half:,} characters are left out here)"
    return f"{text[:half]}\n\n{left_out}\n\n{text[-half:]}"


def shortened(text: str, length: int) -> str:
    """Return `text`, with an ellipsis in the place of what goes beyond `length` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def duration(seconds: float) -> str:
    """Return a duration with the unit that suits it.

    Example:
        >>> [duration(seconds) for seconds in (0, 0.00042, 0.0123, 1.5, 75, 3700)]
        ['0 s', '420 µs', '12.3 ms', '1.50 s', '1 min 15 s', '1 h 01 min']
    """
    if seconds <= 0:
        return "0 s"
    for limit, factor, unit in ((0.9995e-3, 1e6, "µs"), (0.9995, 1e3, "ms")):
        if seconds < limit:
            return f"{_three_digits(seconds * factor)} {unit}"
    if seconds < _MINUTE - 0.05:
        return f"{_three_digits(seconds)} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"


def _three_digits(number: float) -> str:
    for limit, digits in ((9.995, 2), (99.95, 1)):
        if number < limit:
            return f"{number:.{digits}f}"
    return f"{number:.0f}"


def share(part: float, whole: float) -> str:
    """Return a share in per cent; what is there is never nothing."""
    if part <= 0 or whole <= 0:
        return "0 %"
    percent = 100 * part / whole
    return "< 1 %" if percent < 1 else f"{min(percent, 100):.0f} %"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "call"), counted(12000, "call"), counted(2, "retry", "retries")
        ('1 call', '12,000 calls', '2 retries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
