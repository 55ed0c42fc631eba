"""The doctor, asked within the test's process."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bridge.config.load import load_settings
from bridge.core.clock import Clock
from bridge.doctor.checks import DoctorRun
from bridge.doctor.findings import Finding, Level
from bridge.doctor.probe import BrokerAccess
from tests.support.bridge_process import configuration
from tests.support.mqtt_connection import Protocol, settings_for


async def examine(folder: Path, settings: dict[str, Any], listening: float = 1) -> "Found":
    """Write a configuration, and have everything around it looked at."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    file.chmod(0o600)
    findings = await DoctorRun(
        load_settings(file, {}), file, Clock(), listening, f"{os.getpid()}-{secrets.token_hex(3)}"
    ).run()
    return Found(findings)


def at_broker(port: int, **sections: Any) -> dict[str, Any]:
    """A configuration of a bridge at this broker that is otherwise nothing to complain of."""
    return configuration(port, **{"web": {"port": 0}, **sections})


def access(port: int, protocol: Protocol = "5") -> BrokerAccess:
    return BrokerAccess(settings_for(port, protocol), secrets.token_hex(4), Clock())


class Found:
    """What was found."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = findings

    @property
    def codes(self) -> set[str]:
        return {one.code for one in self.findings}

    @property
    def wrong(self) -> list[str]:
        return [one.code for one in self.findings if one.level is Level.WRONG]

    def of(self, code: str) -> Finding:
        found = [one for one in self.findings if one.code == code]
        assert found, f"no {code} among {[f'{one.code}: {one.what}' for one in self.findings]}"
        return found[0]
