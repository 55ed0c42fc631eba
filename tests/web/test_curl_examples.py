"""The examples of docs/http.md do what the page says."""

import asyncio
import base64
import re
import shlex
from pathlib import Path

import orjson
import pytest

from bridge.config.settings import TokenSettings
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin
from tests.persons.person_system import PHOTO, PersonSystem, person_system
from tests.support.core import RecordingConnection
from tests.support.waiting import TIMEOUT_SECONDS
from tests.support.web import WebServerUnderTest

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
EXAMPLES = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8099"
SN, PENDING = "FEDCBA9876543210", "0123456789ABCDEF"


async def run(script: str, url: str, folder: Path) -> list[str]:
    """Run the lines of an example; return the output of each. A status of 400 or more is a failure."""
    outputs = []
    for line in script.splitlines():
        command = line.replace(ADDRESS, url).replace("curl ", "curl -q -sS --fail-with-body --noproxy '*' ", 1)
        command = command.replace("--max-time 60", "--max-time 1")
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, cwd=folder, env={"PATH": "/usr/bin:/bin", "TOKEN": "secret"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(TIMEOUT_SECONDS):
            output, _ = await process.communicate()
        assert process.returncode == 0, (line, output.decode())
        outputs.append(output.decode())
    return outputs


def site_for(system: PersonSystem) -> WebServerUnderTest:
    """Return a server with a login for the token, and the terminals of the examples."""
    site = WebServerUnderTest(persons=system)
    site.registry.put(Terminal(sn=SN, origin=TerminalOrigin.APPROVED, groups=("lobby",)))
    for sn in (SN, "T1", "T2"):
        site.registry.connected(RecordingConnection(site.registry, sn))
    return site


async def test_every_example_of_the_page_works(tmp_path: Path) -> None:
    (tmp_path / "ada.jpg").write_bytes(base64.b64decode(PHOTO))
    assert len(EXAMPLES) == 4
    terminals, persons, log, login = EXAMPLES
    async with person_system(tmp_path) as system:
        site = site_for(system)
        async with site.open():
            opened, group, offline, admitted, forgotten = await run(terminals, site.url, tmp_path)
            assert orjson.loads(opened)["outcome"] == "ok"
            assert orjson.loads(group)["request_id"] == "desk-17"
            assert orjson.loads(offline)["items"] == []
            assert orjson.loads(admitted)["outcome"] == "ok"
            assert (orjson.loads(forgotten)["command"], orjson.loads(forgotten)["outcome"]) == ("forget", "ok")
            assert PENDING not in site.registry
            added, changed, disabled, shown, refused, _, removed = await run(persons, site.url, tmp_path)
            assert {orjson.loads(one)["outcomes"]["accepted"] for one in (added, changed, removed)} == {3}
            assert orjson.loads(disabled)["outcome"] == "accepted"
            where = orjson.loads(shown)
            assert where["person"]["name"] == "Ada"
            assert {one["sn"]: one["wanted"] for one in where["items"]}[SN] == "disabled"
            assert orjson.loads(refused)["total"] == 0
            assert (tmp_path / "1001.jpg").read_bytes() == base64.b64decode(PHOTO)
            _, events = await run(log, site.url, tmp_path)
            assert "event: snapshot" in events
            (again,) = await run(login, site.url, tmp_path)
            assert orjson.loads(again)["outcome"] == "ok"


async def test_the_example_with_a_token_needs_the_token(tmp_path: Path) -> None:
    tokens = {"panel": TokenSettings(hash=Secret("secret"), role="operator")}
    site = WebServerUnderTest(tokens=tokens)
    site.registry.put(Terminal(sn=SN, origin=TerminalOrigin.APPROVED))
    site.registry.connected(RecordingConnection(site.registry, SN))
    async with site.open():
        (opened,) = await run(EXAMPLES[-1], site.url, tmp_path)
        assert orjson.loads(opened)["outcome"] == "ok"
        with pytest.raises(AssertionError, match="401"):
            await run(EXAMPLES[-1].replace("$TOKEN", "wrong"), site.url, tmp_path)


def test_every_example_is_a_command_of_curl() -> None:
    lines = [line for example in EXAMPLES for line in example.splitlines()]
    assert lines
    assert all(shlex.split(line)[0] == "curl" and ADDRESS in line for line in lines)
