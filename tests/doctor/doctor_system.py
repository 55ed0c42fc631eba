"""The doctor in the process of the test."""

import os
import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from bridge.config.load import load_settings
from bridge.core.clock import Clock
from bridge.doctor.checks import DoctorRun
from bridge.doctor.findings import Finding, Level
from bridge.doctor.probe import BrokerAccess
from tests.support.bridge_process import configuration
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_connection import Protocol, settings_for


async def run_doctor(
    folder: Path, settings: dict[str, Any], listen_seconds: float = 0.5, echo_timeout_seconds: float = 5.0
) -> "Findings":
    """Write a configuration, and run the doctor on it."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    file.chmod(0o600)
    loaded = load_settings(file, {})
    access = BrokerAccess.of(loaded.mqtt, f"{os.getpid()}-{secrets.token_hex(3)}", Clock())
    access = replace(access, echo_timeout_seconds=echo_timeout_seconds)
    return Findings(await DoctorRun(loaded, file, access, listen_seconds).run())


def configuration_at(broker_port: int, **sections: Any) -> dict[str, Any]:
    """Return a configuration with this broker that has no other faults."""
    return configuration(broker_port, **{"web": {"port": 0}, **sections})


def broker_access(port: int, protocol: Protocol = "5") -> BrokerAccess:
    return BrokerAccess.of(settings_for(port, protocol), secrets.token_hex(4), Clock())


def broker_without_delay(folder: Path, *options: str, anonymous: bool = True) -> Mosquitto:
    """Return a Mosquitto without Nagle's algorithm."""
    return Mosquitto(folder, ["set_tcp_nodelay true", *options], anonymous=anonymous)


class Findings:
    """The findings of a run."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.all = list(findings)

    @property
    def codes(self) -> set[str]:
        return {one.code for one in self.all}

    @property
    def wrong(self) -> list[str]:
        return [one.code for one in self.all if one.level is Level.WRONG]

    def of(self, code: str) -> Finding:
        """Return the first finding with a code."""
        found = [one for one in self.all if one.code == code]
        assert found, f"no {code} among {[f'{one.code}: {one.what}' for one in self.all]}"
        return found[0]
