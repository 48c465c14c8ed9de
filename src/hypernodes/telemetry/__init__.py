"""Ready-made callbacks: what people look at while pipelines run, and afterwards.

Names are imported when they are first used, and what they need from extras when they are made.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypernodes.telemetry._report.callback import RunReport
    from hypernodes.telemetry.caches import CacheStatsCallback
    from hypernodes.telemetry.errors import CollectedError, ErrorCollector
    from hypernodes.telemetry.logs import LoggingCallback
    from hypernodes.telemetry.progress import ProgressCallback
    from hypernodes.telemetry.timing import TimingCallback
    from hypernodes.telemetry.tracing import TelemetryCallback

__all__ = [
    "CacheStatsCallback",
    "CollectedError",
    "ErrorCollector",
    "LoggingCallback",
    "ProgressCallback",
    "RunReport",
    "TelemetryCallback",
    "TimingCallback",
]

_MODULES = {
    "CacheStatsCallback": "hypernodes.telemetry.caches",
    "CollectedError": "hypernodes.telemetry.errors",
    "ErrorCollector": "hypernodes.telemetry.errors",
    "LoggingCallback": "hypernodes.telemetry.logs",
    "ProgressCallback": "hypernodes.telemetry.progress",
    "RunReport": "hypernodes.telemetry._report.callback",
    "TelemetryCallback": "hypernodes.telemetry.tracing",
    "TimingCallback": "hypernodes.telemetry.timing",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
