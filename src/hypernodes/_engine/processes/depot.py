"""The folder of a pool: big parts of parcels lie in files in memory, which receivers map."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

from hypernodes._engine.shipping.parcels import Packer, Stored, unlink


class Depot(Packer):
    """The folder of a pool's files.

    Args:
        folder: In memory, if possible.
        spare: Where files go when the first is full; made when needed.
    """

    def __init__(self, folder: str, spare: str) -> None:
        self.folder = folder
        self.spare = spare
        self._numbers = itertools.count()

    @classmethod
    def opened(cls) -> Depot:
        """Make the folder."""
        shared = "/dev/shm"  # noqa: S108 - inside it, a folder of our own that nobody else may read
        base = shared if os.access(shared, os.W_OK | os.X_OK) else None
        folder = tempfile.mkdtemp(prefix=f"hypernodes-{os.getpid()}-", dir=base)
        spare = str(Path(tempfile.gettempdir()) / f"{Path(folder).name}-spare")
        return cls(folder, spare)

    def _store_data(self, data: bytes) -> Stored:
        return self._store(memoryview(data))

    def _store(self, raw: memoryview) -> Stored:
        try:
            return self._write(self.folder, raw)
        except OSError:
            Path(self.spare).mkdir(mode=0o700, exist_ok=True)
            return self._write(self.spare, raw)

    def _write(self, folder: str, raw: memoryview) -> Stored:
        path = f"{folder}/{os.getpid()}-{next(self._numbers)}"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            rest = raw
            while rest.nbytes:
                rest = rest[os.write(fd, rest) :]
        except BaseException:
            unlink((path,))
            raise
        finally:
            os.close(fd)
        return Stored(path, raw.nbytes)

    def discard(self, pid: int | None, last: int) -> None:
        """Remove what a process that is gone has written, but not sent.

        Args:
            pid: The process.
            last: The number of the last file that it has sent.
        """
        for folder in (self.folder, self.spare):
            files = map(str, Path(folder).glob(f"{pid}-*"))
            unlink(path for path in files if number_of(path) > last)

    def close(self) -> None:
        """Remove the files."""
        remove(self.folder, self.spare)


def number_of(path: str) -> int:
    """Return the number of a file among those of its writer."""
    return int(path.rpartition("-")[2])


def remove(*folders: str) -> None:
    """Remove folders and what is in them."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
