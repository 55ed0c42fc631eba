"""The folder of uploaded and exported files, which contain faces."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "facebridge-import-"


class UploadFolder:
    """A private folder that exists while the bridge runs.

    The process locks its folder. So after a `kill -9` the next start recognises the folder that was left, and deletes
    it, but not the folder of another bridge.
    """

    def __init__(self, above: Path | None) -> None:
        """Create the description of the folder.

        Args:
            above: the folder that it is created in, on a disk with enough space; None: that of temporary files.
        """
        self._above = Path(tempfile.gettempdir()) if above is None else above
        self._path: Path | None = None
        self._lock: int | None = None

    def start(self) -> None:
        """Delete what bridges that were killed have left."""
        for left in self._above.glob(f"{PREFIX}*"):
            lock = _lock(left)
            if lock is not None:
                if os.fstat(lock).st_uid == os.getuid():
                    shutil.rmtree(left, ignore_errors=True)
                os.close(lock)

    @property
    def path(self) -> Path:
        """The folder; created when it is used first. Raises OSError."""
        while self._path is None or not self._path.exists():
            self.stop()
            created = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._above))
            # Another bridge that starts now can have deleted it before it was locked.
            self._path, self._lock = created, _lock(created)
        return self._path

    def stop(self) -> None:
        """Delete the folder."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._path = self._lock = None


def _lock(folder: Path) -> int | None:
    """Lock a folder and return its descriptor; None if another process has locked it, or it is no folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
