"""The command `facebridge doctor`, and its codes in docs/doctor.md."""

import asyncio
import json
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from bridge.doctor.checks import run_check
from bridge.doctor.findings import KINDS, Area, Finding, Level
from tests.doctor.doctor_system import configuration_at
from tests.support.facebridge import facebridge
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port

DOCS = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()


async def test_nothing_is_wrong(tmp_path: Path, stock_mosquitto: Mosquitto) -> None:
    settings = configuration_at(stock_mosquitto.port, terminals={"password": "pa55word"})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    done = await facebridge(tmp_path, "doctor", "--listen", "1")
    assert (done.code, done.stderr) == (0, "checking; listening at the broker takes about 4 s …\n")
    assert [line for line in done.stdout.splitlines() if line in list(Area)] == [
        "configuration", "broker", "bridge", "terminals", "store", "ports", "clock",
    ]  # fmt: skip
    assert "  ok       MQTT 5 works at 127.0.0.1" in done.stdout
    assert "           → Mosquitto: set_tcp_nodelay true  [nagle]" in done.stdout
    assert "\x1b" not in done.stdout
    assert "pa55word" not in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml"}


async def test_something_is_wrong_as_json(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration_at(free_port())))
    done = await facebridge(tmp_path, "doctor", "--json")
    assert (done.code, done.stderr) == (1, "")
    told = json.loads(done.stdout)
    assert (told["worst"], set(told)) == ("wrong", {"version", "at", "worst", "findings"})
    (broker,) = [one for one in told["findings"] if one["area"] == "broker"]
    assert set(broker) == {"area", "level", "code", "what", "to_do"}
    assert (broker["level"], broker["code"]) == ("wrong", "broker_unreachable")


async def test_the_configuration_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mqtt: {hots: x}\nterminals: {username: dev, password: secret}\n")
    done = await facebridge(tmp_path, "doctor")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == "config.yaml:1: mqtt.hots: unknown key 'hots' (did you mean 'host'?)\n"
    done = await facebridge(tmp_path, "doctor", "--json")
    assert done.code == 2
    assert [one["code"] for one in json.loads(done.stdout)["findings"]] == ["configuration_invalid"]


async def test_a_failing_check_is_a_finding() -> None:
    async def broken() -> Iterable[Finding]:
        raise ZeroDivisionError("with a secret")

    async def endless() -> Iterable[Finding]:
        await asyncio.Event().wait()
        return []

    (failed,) = await run_check("ports", Area.PORTS, broken)
    assert (failed.code, failed.area, "ZeroDivisionError" in failed.what) == ("check_failed", Area.PORTS, True)
    assert "secret" not in failed.what
    (unfinished,) = await run_check("ports", Area.PORTS, endless, timeout_seconds=0.01)
    assert unfinished.code == "check_unfinished"


def test_exactly_these_codes_are_documented() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (\w+) \| (\w+) \|", DOCS, re.MULTILINE)
    assert len(rows) == len({code for code, _, _ in rows})
    assert {code: (level, area) for code, level, area in rows} == {
        code: (kind.level.name.lower(), kind.area.value if kind.area is not None else "any")
        for code, kind in KINDS.items()
    }
    for level in Level:
        assert f"`{level.name.lower()}`" in DOCS


def test_every_code_is_used() -> None:
    code = "".join(path.read_text() for path in (Path(__file__).parents[2] / "bridge").rglob("doctor*/*.py"))
    code += (Path(__file__).parents[2] / "bridge" / "cli" / "doctor.py").read_text()
    for one in KINDS:
        assert code.count(f'"{one}"') > 1, f"{one} is listed, and no check uses it"
