"""The three classes that users derive from, put together from those of the subjects."""

from hypernodes.testing._suite.asynchronous import Asynchronous
from hypernodes.testing._suite.attempts import Attempts
from hypernodes.testing._suite.failures import Failures
from hypernodes.testing._suite.interrupts import Interrupts
from hypernodes.testing._suite.life import Life
from hypernodes.testing._suite.maps import Maps
from hypernodes.testing._suite.nesting import Nesting
from hypernodes.testing._suite.parallel import Parallel
from hypernodes.testing._suite.processes import Processes
from hypernodes.testing._suite.runs import Runs
from hypernodes.testing._suite.stateful import Stateful, StatefulInProcesses
from hypernodes.testing._suite.streams import Streams


class ExecutorConformance(
    Runs, Maps, Streams, Nesting, Stateful, Asynchronous, Failures, Attempts, Life, Interrupts
):
    """What every executor has to do, whatever it runs on.

    Derive a class whose name begins with `Test`, with a fixture `executor` in it, beside it or in a
    `conftest.py`. Its scope is up to you: a wider one opens what is costly only once. All tests
    take their config from the fixture `config`; override it to watch or change all of them.

    Attributes:
        limit: Seconds after which a call counts as hung. A passing test never waits for it.
        stop_within: Seconds in which Ctrl-C has to end a run.
        most_ahead: How many items a lazy map may take ahead of its consumer.
    """


class ParallelConformance(Parallel):
    """What an executor has to do beside that if it does at least two things at once."""


class WorkerProcessConformance(Processes, StatefulInProcesses):
    """What an executor has to do beside that if it starts worker processes on this machine."""
