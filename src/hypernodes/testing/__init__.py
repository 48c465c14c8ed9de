"""The conformance suite: what every executor has to do alike, as classes of pytest tests.

One import and one fixture run it on an executor of your own::

    import pytest

    from hypernodes.testing import ExecutorConformance


    @pytest.fixture
    def executor():
        with MyExecutor() as executor:
            yield executor


    class TestMyExecutor(ExecutorConformance):
        pass

Needs pytest (`pip install "hypernodes[testing]"`), which is imported when a class is first asked
for: workers that import this package go without.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hypernodes.exceptions import MissingDependencyError

if TYPE_CHECKING:
    from hypernodes.testing._suite import (
        ExecutorConformance,
        ParallelConformance,
        WorkerProcessConformance,
    )

__all__ = ["ExecutorConformance", "ParallelConformance", "WorkerProcessConformance"]

_SUITE = f"{__name__}._suite"


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(_load_suite(), name)
    return value


def _load_suite() -> object:
    try:
        import pytest  # noqa: PLC0415 - only whoever runs the tests needs it
    except ImportError as error:
        message = 'the conformance suite needs pytest: pip install "hypernodes[testing]"'
        raise MissingDependencyError(message, extra="testing") from error
    pytest.register_assert_rewrite(_SUITE)  # so that a failure shows the values
    return import_module(_SUITE)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
