"""A container engine for tests: Podman under the name `docker`, with storage of its own.

It needs root. The image in FROM of a Dockerfile cannot be pulled in tests: `scripts/app-base` makes one like it.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.environment import program_environment

_HOLD = """
set -eu
# crun refuses a machine with both versions of cgroups. No container here needs limits.
if [ -d /sys/fs/cgroup/unified ]; then
  umount --recursive /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
echo ready
exec cat >/dev/null
"""

_DOCKER = """#!/bin/sh
if [ "$1" = build ]; then
  shift
  exec podman build --isolation chroot --network host --build-context "$BASE_NAME=container-image://localhost/base" "$@"
fi
exec podman "$@"
"""

_SETTINGS = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""

_COMMAND_SECONDS = 300.0
"""Time-out of a command; a build downloads wheels."""


class ContainerEngine:
    """Runs commands of a user who has `docker` and `sudo`.

    Args:
        folder: for the storage and the programs.
        variables: further variables of the environment.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {
            **program_environment(),
            **variables,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }
        self._holder: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def running(self, base: Path, base_name: str) -> AsyncIterator["ContainerEngine"]:
        """Provide the engine; at the end remove its containers.

        Args:
            base: the folder of the file system that stands in for the base image.
            base_name: the image that FROM names.
        """
        assert os.geteuid() == 0, "containers need root: run the tests as root"
        self._environment["BASE_NAME"] = base_name
        (self._folder / "bin").mkdir(parents=True)
        for name, text in (("docker", _DOCKER), ("sudo", '#!/bin/sh\nexec "$@"\n')):
            program = self._folder / "bin" / name
            program.write_text(text)
            program.chmod(0o755)
        (self._folder / "containers.conf").write_text(_SETTINGS)
        (self._folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\nrunroot = "{self._folder}/run"\ngraphroot = "{self._folder}/storage"\n'
        )
        self._holder = await asyncio.create_subprocess_exec(
            "unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        try:
            assert await self._holder.stdout.readline() == b"ready\n", "mounting is not possible here"
            environment = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
            await self.run(
                f"tar -C {base} -c . | podman import --change '{environment}' - localhost/base", self._folder
            )
            try:
                yield self
            finally:
                await self.run("podman rm --all --force --time 1", self._folder)
        finally:
            self._holder.stdin.close()
            await self._holder.wait()
            # Images have hundreds of megabytes, and pytest keeps the folders of several runs.
            await asyncio.to_thread(shutil.rmtree, self._folder)

    async def run(self, command: str, folder: Path) -> str:
        """Run a command of a shell in a folder; return its output."""
        assert self._holder is not None
        process = await asyncio.create_subprocess_exec(
            "nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wd={folder}",
            "bash", "-euo", "pipefail", "-c", command,
            env=self._environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(_COMMAND_SECONDS):
            output, _ = await process.communicate()
        assert process.returncode == 0, f"{command}\n{output.decode()}"
        return output.decode()
