"""The script that enrols a visitor: the persons that terminals receive, and the script's response."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from tests.home_assistant.home_assistant_system import HomeAssistantSystem, SystemFactory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

DOORS = {"D1": {"name": "Front door"}, "D2": {"name": "Back door"}, "D3": {"name": "Gate"}}
KNOWN = {"D1": DOORS["D1"]}
NAME = """Zoë "Z" O'Brien {{ 1 + 1 }} 李"""


class Enrolment:
    """The script, created from its blueprint.

    Args:
        system: the system in which it runs.
        script: its entity id.
        devices: the device ids of the terminals, by serial number.
    """

    def __init__(self, system: HomeAssistantSystem, script: str, devices: Mapping[str, str]) -> None:
        self._system = system
        self._service = script.split(".")[1]
        self._devices = devices

    async def __call__(self, *sns: str, **fields: Any) -> dict[str, Any]:
        """Run the script and return its response. Each call has its own connection, so calls can run in parallel."""
        devices = [self._devices[sn] for sn in sns or ("D1",)]
        given = {"terminals": devices, "name": NAME, "photo": picture("ada.jpg"), **fields}
        async with self._system.home_assistant.api() as api:
            result = await api.call(
                "call_service", domain="script", service=self._service, service_data=given, return_response=True
            )
        response: dict[str, Any] = result["response"]
        return response

    def published(self) -> list[dict[str, Any]]:
        """Return the persons that the script has published."""
        heard = [heard for heard in self._system.client.heard if heard.topic.endswith("/person/set")]
        assert {one.qos for one in heard} <= {1}
        return [person for one in heard for person in one.json["persons"]]


@asynccontextmanager
async def enrolment(
    system: HomeAssistantSystem, media: Path, *, sns: Iterable[str] = ("D1",), **inputs: object
) -> AsyncIterator[Enrolment]:
    """Create the script, and delete it at the end."""
    devices = {sn: await system.device_id(sn) for sn in sns}
    async with system.blueprint("script", "enrol_visitor", media_folder=str(media), **inputs) as script:
        yield Enrolment(system, script, devices)


def picture(name: str) -> dict[str, str]:
    """Return the value of the media selector for a picture."""
    return {"media_content_id": f"media-source://media_source/local/{name}", "media_content_type": "image/jpeg"}


async def wait_connected(system: HomeAssistantSystem, *names: str) -> None:
    for name in names or ("front_door",):
        await system.api.wait_state(f"binary_sensor.{name}_connection", "on")


async def test_terminal_gets_all_fields(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        enrolment(system, media) as enrol,
    ):
        await wait_connected(system)
        response = await enrol(
            id="12345",
            valid_from="2099-01-01 08:00:00+00:00",
            valid_until="2099-01-02T18:00:00+00:00",
            duration={"hours": 1},
            card="0042",
            pass_count=0,
            weekly={"default": "09:00-17:00", "Sunday": None},
        )
        assert response == {"id": "12345", "accepted": True, "outcomes": {"D1": "ok"}, "text": "Front door: enrolled."}
        person = terminal.persons["12345"]
        assert (person.name, person.card, person.visitor, person.pass_count) == (NAME, "0042", True, 0)
        assert (person.start_ts, person.end_ts) == (4070937600, 4071060000)
        assert person.weekly is not None
        assert (person.weekly["Monday"], person.weekly["Sunday"]) == ("09:00-17:00", "")

        begun = await enrol(id="12346", valid_from="2099-01-01 08:00:00+00:00", duration={"days": 1}, pass_count=3)
        assert terminal.persons[begun["id"]].end_ts == 4070937600 + 24 * 3600
        assert terminal.persons[begun["id"]].pass_count == 3


async def test_empty_fields_are_left_out(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        enrolment(system, media) as enrol,
    ):
        await wait_connected(system)
        empty = dict.fromkeys(("id", "photo_file", "valid_from", "valid_until", "card"), "")
        response = await asyncio.gather(
            enrol(name="007", weekly={}, duration=None, pass_count=None, **empty), *(enrol() for _ in range(2))
        )
        ids = {one["id"] for one in response}
        assert len(ids) == 3, "each has an id of its own"
        for person_id in ids:
            assert person_id.isdigit()
            assert len(person_id) <= 10
        for person in enrol.published():
            assert set(person) == {"id", "name", "photo_file", "visitor"}
        assert terminal.persons[response[0]["id"]].name == "007"


async def test_outcome_of_each_terminal(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(DOORS, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running(),
        system.terminal("D2").running() as refusing,
        enrolment(system, media, sns=DOORS) as enrol,
    ):
        await wait_connected(system, "front_door", "back_door")
        refusing.behaviour = Behaviour(refusal=Refusal(5, "no face found"))
        response = await enrol("D1", "D2", "D3", id="12345")
        assert response["outcomes"] == {"D1": "ok", "D2": "refused", "D3": "accepted"}
        assert response["text"].splitlines() == [
            "Front door: enrolled.",
            "Back door: the terminal refused: no face found",
            "Gate: stored; it is delivered as soon as the terminal is connected.",
        ]
        assert not response["accepted"]
        async with system.terminal("D3").running() as late:
            await system.wait_reply("event.gate_reply", event_type="ok", person_id="12345")
            assert late.persons["12345"].name == NAME


async def test_more_terminals_than_the_script_handles_in_parallel(make_system: SystemFactory, media: Path) -> None:
    many = {f"M{number}": {"name": f"Door {number}"} for number in range(1, 11)}
    async with (
        make_system(many, photos={"folders": [str(media)]}) as system,
        enrolment(system, media, sns=many) as enrol,
    ):
        await system.api.wait_state("binary_sensor.door_10_connection", "off")
        response = await enrol(*many)
        assert response["outcomes"] == dict.fromkeys(many, "accepted")
        assert len(enrol.published()) == len(many)


async def test_no_reply_is_missed_when_others_follow_at_once(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(DOORS, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as first,
        system.terminal("D2").running() as second,
        enrolment(system, media, sns=DOORS) as enrol,
        asyncio.TaskGroup() as tasks,
    ):
        await wait_connected(system, "front_door", "back_door")
        for terminal in (first, second):
            terminal.behaviour = Behaviour(answer_delay=1)
        enrolling = tasks.create_task(enrol("D1", "D2", id="12345"))
        for sn in ("D1", "D2"):
            await system.client.wait_for(
                f"facebridge/terminal/{sn}/reply", lambda heard: outcome_of(heard) == "accepted"
            )
        # Home Assistant receives the final replies and the replies to other presses at the same time.
        system.home_assistant.freeze()
        try:
            for sn in ("D1", "D2"):
                reply = f"facebridge/terminal/{sn}/reply"
                await system.client.wait_for(reply, lambda heard: outcome_of(heard, "setPerson") == "ok")
                await system.client.publish(f"facebridge/terminal/{sn}/open/set", "PRESS", qos=0)
                await system.client.wait_for(reply, lambda heard: outcome_of(heard, "open") == "ok")
        finally:
            system.home_assistant.thaw()
        assert (await enrolling)["text"] == "Front door: enrolled.\nBack door: enrolled."


def outcome_of(heard: Any, command: str = "setPerson") -> str | None:
    """Return the outcome in a reply to this command, None for a reply to another command."""
    reply = heard.json
    return reply["outcome"] if reply["command"] == command else None


async def test_one_automation_enrols_two_visitors(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        system.blueprint("script", "enrol_visitor", media_folder=str(media)) as script,
    ):
        await wait_connected(system)
        given = {"terminals": [await system.device_id("D1")], "photo": picture("ada.jpg")}
        actions = [
            {"action": script, "data": {**given, "id": person_id, "name": NAME}, "response_variable": "enrolment"}
            for person_id in ("11", "12")
        ]
        stop = {"stop": "Both persons were published.", "response_variable": "enrolment"}
        # Less than the time for which the script waits for one terminal.
        async with asyncio.timeout(25):
            result = await system.api.call("execute_script", sequence=[*actions, stop])
        assert result["response"]["text"] == "Front door: enrolled."
        assert set(terminal.persons) == {"11", "12"}


async def test_slow_terminal(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        enrolment(system, media, patience=2) as enrol,
    ):
        await wait_connected(system)
        terminal.behaviour = Behaviour(silent=True)
        response = await enrol()
        assert (response["accepted"], response["outcomes"]) == (True, {"D1": "accepted"})
        assert response["text"] == "Front door: stored; the terminal has not answered yet."


async def test_later_change_supersedes_the_enrolment(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        enrolment(system, media) as enrol,
        asyncio.TaskGroup() as tasks,
    ):
        await wait_connected(system)
        terminal.behaviour = Behaviour(silent=True)
        enrolling = tasks.create_task(enrol(id="12345"))
        await system.client.wait_for("facebridge/terminal/D1/reply", lambda heard: outcome_of(heard) == "accepted")
        await system.client.publish("facebridge/terminal/D1/person/set", {"id": "12345", "name": "Somebody else"})
        response = await enrolling
        assert (response["accepted"], response["outcomes"]) == (False, {"D1": "superseded"})
        assert "a later change to the same person replaced them" in response["text"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"photo": None, "photo_file": "/etc/hostname"}, "photo_file: must lie inside one of photos.folders"),
        ({"id": "no such id!"}, "id: must be"),
        ({"weekly": {"Someday": "09:00-17:00"}}, "weekly.Someday: unknown key"),
        ({"valid_until": "whenever"}, "valid_until: must be a time"),
    ],
)
async def test_fields_that_the_bridge_rejects(
    make_system: SystemFactory, media: Path, fields: dict[str, Any], reason: str
) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        enrolment(system, media) as enrol,
    ):
        await system.api.wait_state("binary_sensor.front_door_connection", "off")
        response = await enrol(**fields)
        assert (response["accepted"], response["outcomes"]) == (False, {"D1": "invalid"})
        assert response["text"].startswith(f"Front door: not enrolled: {reason}")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"terminals": []}, "no terminal was chosen"),
        ({"terminals": "gone"}, "gone: not enrolled: Home Assistant has no such terminal."),
        ({"photo": {"media_content_id": "media-source://image_upload/1234"}}, "must be in the folder My media"),
        ({"valid_until": "2020-01-01 00:00:00"}, "the time has ended already"),
    ],
)
async def test_fields_that_the_script_rejects(
    make_system: SystemFactory, media: Path, fields: dict[str, Any], reason: str
) -> None:
    async with make_system(KNOWN) as system, enrolment(system, media) as enrol:
        await system.api.wait_state("binary_sensor.front_door_connection", "off")
        response = await enrol(**fields)
        assert not response["accepted"]
        assert reason in response["text"]
        assert not enrol.published()


async def test_bridge_that_is_stopped_frozen_or_has_a_full_store(make_system: SystemFactory, media: Path) -> None:
    async with (
        make_system(KNOWN, photos={"folders": [str(media)]}) as system,
        system.terminal("D1").running() as terminal,
        enrolment(system, media, patience=2) as enrol,
    ):
        await wait_connected(system)
        system.bridge.limit_file_size(0)
        response = await enrol(id="1")
        assert (response["accepted"], response["outcomes"]) == (False, {"D1": "unavailable"})
        assert response["text"].endswith("Facebridge tries again by itself.")
        system.bridge.limit_file_size(None)
        await terminal.wait_until(lambda: "1" in terminal.persons)

        os.kill(system.bridge.pid, signal.SIGSTOP)
        response = await enrol(id="2")
        os.kill(system.bridge.pid, signal.SIGCONT)
        assert (response["accepted"], response["outcomes"]) == (False, {"D1": "silence"})
        assert response["text"].startswith("Front door: Facebridge has not answered.")
        await terminal.wait_until(lambda: "2" in terminal.persons)

        await system.bridge.kill()
        await system.api.wait_state("event.front_door_reply", "unavailable")
        response = await enrol(id="3")
        assert (response["accepted"], response["outcomes"]) == (False, {"D1": "bridge_away"})
        assert response["text"] == "Front door: not enrolled: Facebridge is offline."
        await system.bridge.start()
        await wait_connected(system)
        assert "3" not in json.dumps([person["id"] for person in enrol.published()])
