"""An image walked step by step, and a container of it, without a container engine.

Everything is mounted in a mount namespace that a process of its own holds, and that process ends when its standard
input does: whatever becomes of the tests, nothing stays mounted.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.home_assistant_app.dockerfile import Folder, Recipe, Run
from tests.support.logged_process import LoggedProcess
from tests.support.waiting import PATIENCE

_ATTEMPTS = 3
"""Of a step: the network may fail it."""
_STEP_PATIENCE = 240.0
"""Seconds of one attempt; a slow network takes a minute or two for the wheels."""

_NO_PRIVILEGE = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
"""The AppArmor profile gives no capability: so the container has none here."""

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


class WalkedImage:
    """A Dockerfile's steps, carried out on a copy of the base that takes only what they write."""

    def __init__(self, recipe: Recipe, base: Path, context: Path, folder: Path) -> None:
        self.recipe = recipe
        self.base = base
        self.folder = folder
        self._context = context
        self._holder: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def walked(self) -> AsyncIterator["WalkedImage"]:
        """Carry out every step; gone at the end."""
        assert os.geteuid() == 0, "mounting needs root: run the tests as root, or in a container that is"
        self.folder.mkdir()
        self._holder = await asyncio.create_subprocess_exec(
            "unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD, "sh", self.base, self.folder,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE):
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
        """Their namespace."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/ns/mnt")

    def layer(self, name: str) -> Mapping[str, int]:
        """Return what was written into a layer, `image` or `container`: bytes by path, folders' 0."""
        assert self._holder is not None
        top = Path(f"/proc/{self._holder.pid}/root{self.folder}") / name
        return {
            str(path.relative_to(top)): path.lstat().st_size if not path.is_dir() or path.is_symlink() else 0
            for path in top.rglob("*")
        }

    async def run(self, *words: str | Path) -> None:
        """Run a command that sees what is mounted."""
        code, said = await self._attempt(*words)
        assert code == 0, said

    async def _run(self, step: Run) -> None:
        inside = ("env", "-i", f"--chdir={step.folder}", *_listed(step.environment), "sh", "-c", step.command)
        if step.context is not None:
            await self.run("mkdir", f"{self.root}{step.context}")
            await self.run("mount", "--bind", "-o", "ro", self._context, f"{self.root}{step.context}")
        code, said = 1, ""
        for _ in range(_ATTEMPTS):
            code, said = await self._attempt("chroot", self.root, *inside)
            if code == 0:
                break
        assert code == 0, f"RUN {step.command}\n{said}"
        if step.context is not None:
            await self.run("umount", f"{self.root}{step.context}")
            await self.run("rmdir", f"{self.root}{step.context}")

    async def _attempt(self, *words: str | Path) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig=KILL", "nsenter", f"--mount={self.mounts}", *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_STEP_PATIENCE):
                said, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return 1, f"not done within {_STEP_PATIENCE:g} s"
        assert process.returncode is not None
        return process.returncode, said.decode()


class Container(LoggedProcess):
    """A container of a walked image: its command as the first process, with layer, processes and network of its own.

    Args:
        image: which.
        network: the network namespace's name.
        environment: what the engine adds to the image's.
    """

    def __init__(self, image: WalkedImage, network: str, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._image = image
        self._network = network
        self._environment = {**image.recipe.environment, **environment}

    async def make(self, hosts: Mapping[str, str], writable: Mapping[str, Path], readable: Mapping[str, Path]) -> None:
        """Mount what it sees: addresses by name, and folders of outside by their paths inside."""
        file = self._image.folder.with_name("hosts")
        lines = {"localhost": "127.0.0.1", **hosts}
        file.write_text("".join(f"{address} {name}\n" for name, address in lines.items()))
        seen: list[str | Path] = []
        for mode, folders in (("rw", writable), ("ro", readable)):
            for inside, outside in folders.items():
                seen += [outside, inside, mode]
        await self._image.run("sh", "-c", _FINISH, "sh", self._image.base, self._image.folder, file, *seen)

    async def start(self) -> None:
        """Start its command."""
        root, recipe = str(self._image.root), self._image.recipe
        await self._start(
            "setpriv", "--pdeathsig=KILL",
            "nsenter", f"--mount={self._image.mounts}", f"--net=/run/netns/{self._network}",
            "unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={root}/proc",
            "chroot", root, *self._inside(*recipe.command),
        )  # fmt: skip

    async def command(self, *words: str) -> tuple[int, str]:
        """Run a command in it, as `docker exec` does; return its exit code and what it said."""
        process = await asyncio.create_subprocess_exec(
            "nsenter", f"--target={self.first_child()}", "--mount", "--net", "--pid", "--root", *self._inside(*words),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send its first process a signal, as the engine does; return the exit code."""
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
