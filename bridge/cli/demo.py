"""`facebridge demo`: a broker, the bridge and simulated terminals on one machine."""

import asyncio
import base64
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Any

import aiohttp
import orjson
from rich.console import Console
from rich.markup import escape

from bridge.app import Bridge, StartError, embedded_broker, running_bridge
from bridge.cli.logs import set_up_logging
from bridge.cli.support import program
from bridge.config.load import load_settings
from bridge.config.settings import MqttSettings, Settings
from bridge.core.clock import Clock
from bridge.mqtt.client.connection import (
    ConnectionHandlers,
    Message,
    MqttConnection,
    NotConnectedError,
    Publication,
    SessionOptions,
)
from bridge.simulator.faces import sample_photo
from bridge.simulator.fleet import SimulatedFleet

_STEP_TIMEOUT_SECONDS = 20.0
"""Time for one step, which normally takes a fraction of a second."""

_MAX_KEPT_MESSAGES = 1000
"""Received messages that are kept for `expect`: a demo that runs for days must not use more and more memory."""

_TERMINALS = {"DEMO0000000001": "Front door", "DEMO0000000002": "Back door"}
_PERSONS = {"1001": "Ada", "1002": "Grace"}
_USUAL_PORTS = {"mqtt": 1883, "terminals": 8765, "web": 8099}

_CONFIGURATION = """
mqtt: {{port: {mqtt}}}
terminals:
  host: 127.0.0.1
  port: {terminals}
  username: dev
  password: demo
  known:
    DEMO0000000001: {{name: Front door, area: Lobby, groups: [demo]}}
    DEMO0000000002: {{name: Back door, area: Yard, groups: [demo]}}
web: {{port: {web}}}
logging: {{level: warning}}
"""


class _StepFailedError(Exception):
    """A step of the demo failed."""


async def run_demo(*, once: bool) -> int:
    """Show one round: connect, enrol, open, reply. Then run until Ctrl-C, unless `once` is true.

    Returns:
        The exit code: 1 if a step failed.
    """
    console = Console(highlight=False, soft_wrap=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="facebridge-demo-") as folder:
        try:
            async with AsyncExitStack() as stack:
                demo = await stack.enter_async_context(_started(console, Path(folder)))
                await demo.play()
                if not once:
                    demo.suggest()
                    await stop.wait()
        except (StartError, _StepFailedError) as error:
            console.print(f"[bold red]failed:[/] {escape(str(error))}")
            return 1
    console.print("[bold green]done[/]")
    return 0


class _Demo:
    """The steps of the demo on a running system."""

    def __init__(
        self, console: Console, settings: Settings, bridge: Bridge, client: "_MqttClient", fleet: SimulatedFleet
    ) -> None:
        self._console = console
        self._settings = settings
        self._bridge = bridge
        self._client = client
        self._fleet = fleet

    async def play(self) -> None:
        """Play one round. Raises _StepFailedError."""
        client = self._client
        self._title("Two terminals connect")
        for sn in _TERMINALS:
            await client.expect(f"facebridge/terminal/{sn}/availability", lambda payload: payload == b"online")
        self._title("Two persons are enrolled on both terminals, with generated photos")
        persons = [
            {"id": person_id, "name": name, "photo": base64.b64encode(sample_photo(int(person_id))).decode()}
            for person_id, name in _PERSONS.items()
        ]
        await client.publish(
            "facebridge/group/demo/person/set", {"persons": persons, "request_id": "enrolment"}, shown="two persons"
        )
        for sn in _TERMINALS:
            for person_id in _PERSONS:
                await client.expect(
                    f"facebridge/terminal/{sn}/reply", _reply("setPerson", "ok", "enrolment", person_id)
                )
        self._holds()
        self._title("A door is opened over MQTT")
        await client.publish("facebridge/terminal/DEMO0000000001/open/set", {"request_id": "first press"})
        await client.expect("facebridge/terminal/DEMO0000000001/reply", _reply("open", "ok", "first press", None))
        self._title("The other door is opened over HTTP")
        await self._open_over_http("DEMO0000000002")
        self._title("A command for an unknown terminal gets the outcome `invalid`")
        await client.publish("facebridge/terminal/UNKNOWN/open/set", {"request_id": "second press"})
        await client.expect("facebridge/terminal/UNKNOWN/reply", _reply("open", "invalid", "second press", None))

    def _holds(self) -> None:
        """Print which persons each simulated terminal holds."""
        for terminal in self._fleet.terminals:
            names = ", ".join(person.name for _, person in sorted(terminal.persons.items()))
            self._console.print(f"  {_TERMINALS[terminal.sn]} now lets in: {names}")

    def suggest(self) -> None:
        """Print the page's address, and commands to try."""
        port = self._settings.mqtt.port
        self._title("The demo runs until Ctrl-C. The page shows both doors and both persons:")
        self._console.print(f"  http://127.0.0.1:{self._bridge.web.port}")
        self._title("Commands to try in a second window (mosquitto_sub is in the package mosquitto-clients):")
        for line in (
            f"mosquitto_sub -p {port} -t 'facebridge/#' -v",
            f"mosquitto_pub -p {port} -t facebridge/group/demo/open/set -m PRESS",
            f"curl -X POST http://127.0.0.1:{self._bridge.web.port}/api/terminals/DEMO0000000001/open",
            f"curl http://127.0.0.1:{self._bridge.web.port}/api/terminals",
            f"{program()} simulate --url ws://dev:demo@127.0.0.1:{self._bridge.terminals.port}/devs/ --sn NEW1",
        ):
            self._console.print(f"  {escape(line)}")

    async def _open_over_http(self, sn: str) -> None:
        path = f"/api/terminals/{sn}/open"
        self._console.print(f"  [cyan]POST[/] {path}")
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self._bridge.web.port}{path}") as response,
        ):
            reply = await response.json()
            self._console.print(f"  [green]{response.status}[/]  {escape(orjson.dumps(reply).decode())}")
            if reply["outcome"] != "ok":
                raise _StepFailedError(f"POST {path}: outcome {reply['outcome']}, expected ok")

    def _title(self, text: str) -> None:
        self._console.print(f"\n[bold]{escape(text)}[/]")


@asynccontextmanager
async def _started(console: Console, folder: Path) -> AsyncIterator[_Demo]:
    set_up_logging("error", "text")
    file = folder / "config.yaml"
    file.write_text(_CONFIGURATION.format(**_ports(console)))
    settings = load_settings(file, {})
    async with AsyncExitStack() as stack:
        settings = replace(settings, mqtt=await stack.enter_async_context(embedded_broker(settings.mqtt)))
        warnings = {"embedded broker": "embedded broker: only for trials"}
        bridge = await stack.enter_async_context(running_bridge(settings, warnings))
        console.print(f"terminals connect to ws://127.0.0.1:{bridge.terminals.port}/devs/ as dev, password demo")
        console.print(
            f"the broker is embedded in the demo, on 127.0.0.1:{settings.mqtt.port}: it is for trials and forgets"
            " everything when the demo ends"
        )
        console.print(f"the page and the HTTP API are on http://127.0.0.1:{bridge.web.port}")
        client = await stack.enter_async_context(_MqttClient(console, settings.mqtt).running())
        fleet = SimulatedFleet(
            f"ws://dev:demo@127.0.0.1:{bridge.terminals.port}{settings.terminals.path}/", list(_TERMINALS)
        )
        await stack.enter_async_context(fleet.running())
        yield _Demo(console, settings, bridge, client, fleet)


class _MqttClient:
    """An MQTT client like a user's: it publishes commands and prints the messages that it waits for."""

    def __init__(self, console: Console, settings: MqttSettings) -> None:
        self._console = console
        self._ready = asyncio.Event()
        self._messages: list[Message] = []
        self._more = asyncio.Event()
        self._connection = MqttConnection(
            settings,
            SessionOptions(client_id=f"facebridge-demo-{os.getpid()}"),
            ConnectionHandlers(on_message=self._received, on_connect=self._connected, on_disconnect=self._ready.clear),
            Clock(),
            SystemRandom(),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["_MqttClient"]:
        running = asyncio.get_running_loop().create_task(self._connection.run())
        try:
            async with asyncio.timeout(_STEP_TIMEOUT_SECONDS):
                await self._ready.wait()
            yield self
        except TimeoutError:
            raise _StepFailedError(f"the embedded broker does not answer within {_STEP_TIMEOUT_SECONDS:g} s") from None
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def publish(self, topic: str, value: dict[str, Any], *, shown: str | None = None) -> None:
        """Publish a command, and print it."""
        payload = orjson.dumps(value)
        self._console.print(f"  [cyan]→[/] {topic}  {escape(shown or payload.decode())}")
        try:
            await self._connection.publish(Publication(topic, payload))
        except NotConnectedError:
            raise _StepFailedError("the connection to the embedded broker is lost") from None

    async def expect(self, topic: str, condition: Callable[[bytes], bool]) -> None:
        """Wait for a message that fulfils a condition, and print it."""
        try:
            async with asyncio.timeout(_STEP_TIMEOUT_SECONDS):
                while not (found := self._take(topic, condition)):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise _StepFailedError(
                f"{topic}: the expected message did not come in {_STEP_TIMEOUT_SECONDS:g} s"
            ) from None
        self._console.print(f"  [green]←[/] {topic}  {escape(found.payload.decode())}")

    def _take(self, topic: str, condition: Callable[[bytes], bool]) -> Message | None:
        for message in self._messages:
            if message.topic == topic and condition(message.payload):
                self._messages.remove(message)
                return message
        return None

    async def _connected(self) -> None:
        await self._connection.subscribe(["facebridge/terminal/+/availability", "facebridge/terminal/+/reply"])
        self._ready.set()

    def _received(self, message: Message) -> None:
        self._messages = [*self._messages[-_MAX_KEPT_MESSAGES:], message]
        self._more.set()


def _reply(command: str, outcome: str, request_id: str, person_id: str | None) -> Callable[[bytes], bool]:
    def matches(payload: bytes) -> bool:
        reply = orjson.loads(payload)
        return (reply["command"], reply["outcome"], reply["request_id"], reply["person_id"]) == (
            command,
            outcome,
            request_id,
            person_id,
        )

    return matches


def _ports(console: Console) -> dict[str, int]:
    """Return the usual ports, or a free port for each that is in use."""
    ports: dict[str, int] = {}
    for name, usual in _USUAL_PORTS.items():
        try:
            with socket.create_server(("127.0.0.1", usual)):
                ports[name] = usual
        except OSError:
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports[name] = free.getsockname()[1]
            console.print(f"port {usual} is in use; {name} uses {ports[name]}")
    return ports
