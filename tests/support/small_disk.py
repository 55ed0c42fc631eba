"""A small disk of a test's own, that can be full, empty again, and read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK = 4096


class SmallDisk:
    """A tmpfs with room for a store of some persons."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @contextmanager
    def mounted(self) -> Iterator["SmallDisk"]:
        assert os.geteuid() == 0, "a disk of its own needs root: run the tests as root, or in a container that is"
        self.folder.mkdir()
        _mount("-t", "tmpfs", "-o", "size=4m", "facebridge-test", str(self.folder))
        try:
            yield self
        finally:
            subprocess.run(["umount", str(self.folder)], check=True, capture_output=True)

    def fill(self) -> None:
        """Have somebody else take all the room that is left."""
        file = os.open(self._ballast, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        try:
            while True:
                os.write(file, bytes(_BLOCK))
        except OSError:
            return
        finally:
            os.close(file)

    def make_room(self) -> None:
        """Take away what `fill` has put there."""
        self._ballast.unlink()

    def set_read_only(self, read_only: bool) -> None:
        """Let nobody write to it; nobody may have a file open for writing."""
        _mount("-o", f"remount,{'ro' if read_only else 'rw'}", str(self.folder))


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"mounting is not possible here: {done.stderr}"
