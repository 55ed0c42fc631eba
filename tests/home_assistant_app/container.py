"""An image built step by step, and its container, without a container engine.

Everything is mounted in a mount namespace that a separate process holds. That process ends when its standard input is
closed, so nothing stays mounted, even if the tests are killed.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.home_assistant_app.dockerfile import Folder, Recipe, Run
from tests.support.logged_process import LoggedProcess
from tests.support.waiting import TIMEOUT_SECONDS

_MAX_ATTEMPTS = 3
"""Attempts of a step, which the network may fail."""
_STEP_SECONDS = 240.0
"""Time-out of one attempt; on a slow network the wheels take a minute or two."""

_NO_PRIVILEGE = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
"""The AppArmor profile grants no capability, so the container has none here."""

_HOLD = """
set -eu
base=$1 folder=$2
mount -t tmpfs facebridge-image "$folder"
cd "$folder"
mkdir image container work root
mount -t overlay -o "lowerdir=$base,upperdir=$folder/image,workdir=$folder/work" overlay root
for part in proc sys dev; do mount --rbind "/$part" "root/$part"; done
echo ready
exec cat >/dev/null
"""
_FINISH = """
set -eu
base=$1 folder=$2 hosts=$3; shift 3
cd "$folder"
umount -R root
rm -rf work; mkdir work
mount -t overlay -o "lowerdir=$folder/image:$base,upperdir=$folder/container,workdir=$folder/work" overlay root
for part in proc sys dev; do mount --rbind "/$part" "root/$part"; done
mount --bind "$hosts" root/etc/hosts
while [ $# -gt 0 ]; do
  mkdir -p "root$2"
  mount --bind "$1" "root$2"
  mount -o "remount,bind,$3" "root$2"
  shift 3
done
"""


class SteppedImage:
    """The steps of a Dockerfile, carried out on an overlay of the base image."""

    def __init__(self, recipe: Recipe, base: Path, context: Path, folder: Path) -> None:
        self.recipe = recipe
        self.base = base
        self.folder = folder
        self._context = context
        self._holder: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def built(self) -> AsyncIterator["SteppedImage"]:
        """Carry out every step; the image is removed at the end."""
        assert os.geteuid() == 0, "mounting needs root: run the tests as root, or in a container that is"
        self.folder.mkdir()
        self._holder = await asyncio.create_subprocess_exec(
            "unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD, "sh", self.base, self.folder,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                assert await self._holder.stdout.readline() == b"ready\n", "mounting is not possible here"
            for step in self.recipe.steps:
                if isinstance(step, Folder):
                    await self.run("mkdir", "-p", f"{self.root}{step.path}")
                else:
                    await self._run(step)
            yield self
        finally:
            self._holder.stdin.close()
            await self._holder.wait()

    @property
    def root(self) -> Path:
        """The image's root, as the holder of the mounts sees it."""
        return self.folder / "root"

    @property
    def mounts(self) -> Path:
        """The mount namespace."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/ns/mnt")

    def layer(self, name: str) -> Mapping[str, int]:
        """Return the size of each path in a layer, `image` or `container`; 0 for folders."""
        assert self._holder is not None
        top = Path(f"/proc/{self._holder.pid}/root{self.folder}") / name
        return {
            str(path.relative_to(top)): path.lstat().st_size if not path.is_dir() or path.is_symlink() else 0
            for path in top.rglob("*")
        }

    async def run(self, *words: str | Path) -> None:
        """Run a command in the mount namespace."""
        code, output = await self._attempt(*words)
        assert code == 0, output

    async def _run(self, step: Run) -> None:
        inside = ("env", "-i", f"--chdir={step.folder}", *_listed(step.environment), "sh", "-c", step.command)
        if step.context is not None:
            await self.run("mkdir", f"{self.root}{step.context}")
            await self.run("mount", "--bind", "-o", "ro", self._context, f"{self.root}{step.context}")
        code, output = 1, ""
        for _ in range(_MAX_ATTEMPTS):
            code, output = await self._attempt("chroot", self.root, *inside)
            if code == 0:
                break
        assert code == 0, f"RUN {step.command}\n{output}"
        if step.context is not None:
            await self.run("umount", f"{self.root}{step.context}")
            await self.run("rmdir", f"{self.root}{step.context}")

    async def _attempt(self, *words: str | Path) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig=KILL", "nsenter", f"--mount={self.mounts}", *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_STEP_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return 1, f"not finished within {_STEP_SECONDS:g} s"
        assert process.returncode is not None
        return process.returncode, output.decode()


class Container(LoggedProcess):
    """A container of an image: the command is the first process; layer, processes and network are isolated.

    Args:
        image: the image.
        network: the name of the network namespace.
        environment: variables that the engine adds to those of the image.
    """

    def __init__(self, image: SteppedImage, network: str, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._image = image
        self._network = network
        self._environment = {**image.recipe.environment, **environment}

    async def make(self, hosts: Mapping[str, str], writable: Mapping[str, Path], readable: Mapping[str, Path]) -> None:
        """Mount the container's files: addresses by name, and outside folders by their paths inside."""
        file = self._image.folder.with_name("hosts")
        lines = {"localhost": "127.0.0.1", **hosts}
        file.write_text("".join(f"{address} {name}\n" for name, address in lines.items()))
        seen: list[str | Path] = []
        for mode, folders in (("rw", writable), ("ro", readable)):
            for inside, outside in folders.items():
                seen += [outside, inside, mode]
        await self._image.run("sh", "-c", _FINISH, "sh", self._image.base, self._image.folder, file, *seen)

    async def start(self) -> None:
        """Start the image's command."""
        root, recipe = str(self._image.root), self._image.recipe
        await self._start(
            "setpriv", "--pdeathsig=KILL",
            "nsenter", f"--mount={self._image.mounts}", f"--net=/run/netns/{self._network}",
            "unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={root}/proc",
            "chroot", root, *self._inside(*recipe.command),
        )  # fmt: skip

    async def command(self, *words: str) -> tuple[int, str]:
        """Run a command in the container as `docker exec` does; return its exit code and output."""
        process = await asyncio.create_subprocess_exec(
            "nsenter", f"--target={self.first_child()}", "--mount", "--net", "--pid", "--root", *self._inside(*words),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(TIMEOUT_SECONDS):
            output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to the first process, as the engine does; return the exit code."""
        os.kill(self.first_child(), number)
        return await self.ended()

    def _inside(self, *words: str) -> tuple[str, ...]:
        return (
            *_NO_PRIVILEGE,
            "env",
            "-i",
            f"--chdir={self._image.recipe.folder}",
            *_listed(self._environment),
            *words,
        )


def _listed(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]
