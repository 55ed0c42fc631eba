"""A systemd in namespaces of its own, over an overlay of this machine's files that is discarded at the end.

Tests run units in it as on a real machine: with sandboxes, users and restarts.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

TIMEOUT_SECONDS = 60.0
"""Booting takes a few seconds on an idle machine."""

PYTHON = "/opt/python/bin/python3"
"""The path inside of the Python that runs these tests, which may be below a user's home outside."""

ENVIRONMENT = {"LD_LIBRARY_PATH": "/opt/python/lib"}
"""Environment with which that Python finds its libraries."""

_BOOT = r"""
set -eu
folder=$1; python=$2; outside=$3
root=$folder/root
mount --make-rprivate /
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc proc "$root/proc"
# The kernel is shared: systemd in here must neither set its variables nor search for its devices.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root/opt/python" "$root/opt/from-outside"
mount --bind "$python" "$root/opt/python"
mount --bind "$outside" "$root/opt/from-outside"
# No unit of this machine runs in it.
rm -rf "$root"/etc/systemd/system/*
printf '[Unit]\nDescription=Machine of the tests\n' >"$root/etc/systemd/system/bare.target"
# Not chroot: in a chroot the kernel refuses user namespaces, which PrivateUsers needs.
cd "$root"
mkdir .before
pivot_root . .before
umount --lazy /.before
exec env -i container=tests PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=bare.target --show-status=no --log-target=journal
"""


class SystemdMachine:
    """A booted systemd with its namespaces.

    Args:
        pid: the process id of its systemd, as seen from outside.
        outside: the folder outside that is mounted inside as /opt/from-outside.
    """

    def __init__(self, pid: int, outside: Path) -> None:
        self._pid = pid
        self.outside = outside

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root.

        Args:
            command: the command.
            environment: its complete environment, except for PATH.
            stdin: text for its standard input.
            check: whether it must exit with 0.
        """
        done = subprocess.run(
            [*self._inside(), *command],
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})},
            input=stdin, capture_output=True, text=True, timeout=4 * TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.journal()}"
        return done

    def show(self, name: str, unit: str = "facebridge") -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", path, stdin=text)

    def wait(self, *command: str) -> None:
        """Run a command repeatedly until it exits with 0."""
        end = time.perf_counter() + TIMEOUT_SECONDS
        while (done := self.run(*command, check=False)).returncode != 0:
            assert time.perf_counter() < end, f"{command}\n{done.stdout}\n{done.stderr}\n{self.journal()}"
            time.sleep(0.1)

    def journal(self) -> str:
        """Return the last lines of the journal."""
        subprocess.run([*self._inside(), "journalctl", "--sync"], capture_output=True, check=False)
        done = subprocess.run(
            [*self._inside(), "journalctl", "-n", "60", "--no-pager", "-o", "cat"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout

    def _inside(self) -> Sequence[str]:
        return ["nsenter", "-t", str(self._pid), "-m", "-p", "-C", "-u", "-i", "-n", "-r", "-w"]


@contextmanager
def systemd_machine(folder: Path, outside: Path) -> Iterator[SystemdMachine]:
    """Boot a systemd, and kill it at the end.

    Args:
        folder: a folder for its files.
        outside: the folder that is mounted inside as /opt/from-outside.
    """
    assert os.geteuid() == 0, "booting systemd needs root: run the tests as root, or in a container as root"
    program = shutil.which("systemd", path="/lib/systemd:/usr/lib/systemd")
    assert program is not None, "systemd is not installed: run scripts/test --all, which installs it"
    hierarchy = Path("/sys/fs/cgroup")
    if not (hierarchy / "cgroup.procs").exists():
        hierarchy /= "unified"
    group = hierarchy / f"facebridge-{token_hex(3)}"
    group.mkdir()
    # Enter a new control group before the namespace is created, so that systemd sees this group as the root.
    script = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
    unshare = ["unshare", "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--fork", "--kill-child"]
    boot = ["sh", "-c", _BOOT, "sh", str(folder), sys.base_prefix, str(outside)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", script, "sh", str(group), *unshare, *boot], stdout=subprocess.DEVNULL, stderr=log
        )
    try:
        machine = SystemdMachine(_booted(process, folder), outside)
        machine.wait("systemctl", "is-active", "bare.target")
        yield machine
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        _remove(group)


def _booted(process: subprocess.Popen[bytes], folder: Path) -> int:
    """Wait until systemd runs in the namespaces; return its process id."""
    end = time.perf_counter() + TIMEOUT_SECONDS
    while time.perf_counter() < end:
        assert process.poll() is None, (folder.parent / f"{folder.name}.log").read_text()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            return int(children[0])
        time.sleep(0.05)
    raise AssertionError("systemd did not start")


def _remove(group: Path) -> None:
    """Wait until all processes of a control group have ended, and remove it with its subgroups."""
    end = time.perf_counter() + TIMEOUT_SECONDS
    while group.exists() and time.perf_counter() < end:
        try:
            for inner in sorted((one for one in group.rglob("*") if one.is_dir()), reverse=True):
                inner.rmdir()
            group.rmdir()
        except OSError:
            time.sleep(0.1)
