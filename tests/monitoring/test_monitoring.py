"""The examples for Prometheus and Grafana, with a Prometheus that scrapes a bridge."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.bridge_system import PHOTO
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.prometheus import prometheus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

EXAMPLES = Path(__file__).parents[2] / "examples" / "monitoring"
RULES = EXAMPLES / "facebridge.rules.yml"
DASHBOARD: dict[str, Any] = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
TOKEN = "the token of prometheus"


def queries() -> Iterator[str]:
    """Yield the queries of the dashboard's panels, with Grafana's variable filled in."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m")


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault() -> None:
    promtool("check", "config", str(EXAMPLES / "prometheus.yml"))
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


def test_alert_conditions(tmp_path: Path) -> None:
    cases = (Path(__file__).parent / "alerts.yml").read_text().replace("RULES", str(RULES))
    # The cases test when an alert fires, and not its text.
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "alerts.yml").write_text(cases.replace(str(RULES), str(tmp_path / "rules.yml")))
    promtool("test", "rules", str(tmp_path / "alerts.yml"))
    tested = {one["alertname"] for test in yaml.safe_load(cases)["tests"] for one in test["alert_rule_test"]}
    assert tested == {rule["alert"] for rule in ALERTS}


def test_alerts_are_documented() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    for rule in ALERTS:
        assert f"| `{rule['alert']}` | {rule['labels']['severity']} |" in readme


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    occupied: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & occupied, f"{panel['title']} overlaps another panel"
        assert max(x for x, _ in cells) < 24, f"{panel['title']} is too wide"
        occupied |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


async def test_prometheus_scrapes_a_bridge(tmp_path: Path) -> None:
    for part in ("mosquitto", "bridge", "prometheus"):
        (tmp_path / part).mkdir()
    token_file = tmp_path / "facebridge-token"
    token_file.write_text(f"{TOKEN}\n")
    hashed = subprocess.run(
        [sys.executable, "-m", "bridge", "hash-password"],
        input=token_file.read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    async with Mosquitto(tmp_path / "mosquitto") as broker:
        settings = configuration(
            broker.port, web={"tokens": {"prometheus": {"hash": hashed.stdout.strip(), "role": "operator"}}}
        )
        bridge = BridgeProcess(tmp_path / "bridge", settings)
        async with (
            bridge.running(),
            mqtt_client(broker.port, "facebridge/#") as client,
            prometheus(
                tmp_path / "prometheus", EXAMPLES / "prometheus.yml", f"127.0.0.1:{bridge.web_port}", token_file
            ) as watching,
        ):
            terminal = SimulatedTerminal(bridge.terminal_url, "T1", options=ConnectionOptions(first_retry_seconds=0.05))
            unknown = SimulatedTerminal(bridge.terminal_url, "S1", options=ConnectionOptions(first_retry_seconds=0.05))
            terminal.behaviour = Behaviour(refusal=Refusal(3, "no face"), only_for=frozenset({"1001"}))
            wrong_url = bridge.terminal_url.replace("dev:123", "dev:124")
            wrong = SimulatedTerminal(wrong_url, "T2", options=ConnectionOptions(first_retry_seconds=0.05))
            async with terminal.running(), unknown.running(), wrong.running():
                await watching.wait_until('facebridge_terminals{state="online"} == 1')
                await client.publish("facebridge/terminal/T1/open/set", "PRESS")
                person = {"id": "1001", "name": "Ada", "photo": PHOTO}
                await client.publish("facebridge/group/lobby/person/set", person)
                for alert in ("TerminalOffline", "TerminalPending", "PersonsRefused", "TerminalsTurnedAway"):
                    await watching.wait_alert(f"Facebridge{alert}")
                for expression in queries():
                    await watching.wait_until(expression)
                assert not await watching.query('ALERTS{alertname=~"FacebridgeDown|FacebridgeBrokerAway"}')
                terminal.behaviour = Behaviour(silent=True)
                await client.publish("facebridge/terminal/T1/open/set", "PRESS")
                await watching.wait_alert("FacebridgePressesNotCarriedOut")
            await broker.stop()
            await watching.wait_alert("FacebridgeBrokerAway")
            await broker.start()
            await watching.wait_until(
                'min(facebridge_broker_connected) == 1 unless ALERTS{alertname="FacebridgeBrokerAway"}'
            )
            await bridge.stop()
            await watching.wait_alert("FacebridgeDown")
            await bridge.start()
