"""A small disk for one test, which can be full or read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK_BYTES = 4096


class SmallDisk:
    """A tmpfs with room for a store of some persons.

    Args:
        folder: where the disk is mounted; it must not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @contextmanager
    def mounted(self) -> Iterator["SmallDisk"]:
        assert os.geteuid() == 0, "mounting a disk needs root: run the tests as root, or in a container as root"
        self.folder.mkdir()
        _mount("-t", "tmpfs", "-o", "size=4m", "facebridge-test", str(self.folder))
        try:
            yield self
        finally:
            subprocess.run(["umount", str(self.folder)], check=True, capture_output=True)

    def fill(self) -> None:
        """Write a file that takes all free space."""
        file = os.open(self._ballast, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        try:
            while True:
                os.write(file, bytes(_BLOCK_BYTES))
        except OSError:
            return
        finally:
            os.close(file)

    def free_space(self) -> None:
        """Delete the file that `fill` has written."""
        self._ballast.unlink()

    def set_read_only(self, read_only: bool) -> None:
        """Mount the disk again, read-only or writable; no file on it may be open for writing."""
        _mount("-o", f"remount,{'ro' if read_only else 'rw'}", str(self.folder))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"mount failed: {done.stderr}"
