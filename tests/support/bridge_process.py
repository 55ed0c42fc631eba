"""The bridge as a process of its own: tests can freeze it, kill it and connect to its real ports."""

import re
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.environment import program_environment
from tests.support.logged_process import LoggedProcess

_READY = re.compile(r"ready: terminals wss?://[^ ]+:(\d+)/devs/, .*web http://[^ ]+:(\d+)")


class BridgeProcess(LoggedProcess):
    """`facebridge run` on a configuration that the test gives."""

    def __init__(self, folder: Path, configuration: dict[str, Any], *, module: str = "bridge") -> None:
        super().__init__()
        self.folder = folder
        self._module = module
        self.terminals_port = 0
        self.web_port = 0
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration))

    @property
    def terminal_url(self) -> str:
        return f"ws://dev:123@127.0.0.1:{self.terminals_port}/devs/"

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    async def start(self) -> None:
        """Start it, and wait for its ready line."""
        await self._start(
            sys.executable, "-m", self._module, "run", "-c", str(self.folder / "config.yaml"),
            environment={**program_environment(), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        await self.wait_log("ready: ")
        ready = _READY.search(self.log)
        assert ready is not None, self.log
        self.terminals_port, self.web_port = int(ready[1]), int(ready[2])

    def freeze(self) -> None:
        """Stop it with SIGSTOP; its sockets stay open."""
        self._send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue it."""
        self._send_signal(signal.SIGCONT)


def configuration(mqtt_port: int, **sections: Any) -> dict[str, Any]:
    """Return a configuration with two known terminals, free ports and a deadline of two seconds.

    Args:
        mqtt_port: the broker's port. Without a broker on it, each start of the bridge waits five seconds.
        sections: keys to add to sections or to replace.
    """
    basis: dict[str, Any] = {
        "mqtt": {"host": "127.0.0.1", "port": mqtt_port},
        "terminals": {
            "port": 0,
            "username": "dev",
            "password": "123",
            "known": {"T1": {"name": "Front door", "groups": ["lobby"]}, "T2": {"groups": ["lobby"]}},
        },
        "web": {"port": 0},
        "commands": {"deadline": 2},
    }
    for name, section in sections.items():
        basis[name] = {**basis.get(name, {}), **section}
    return basis
