"""An error that breaks whoever wants to show it."""


class SpeechlessError(Exception):
    """An error that cannot say what it is."""

    def __str__(self):
        raise RuntimeError

    __repr__ = __str__
