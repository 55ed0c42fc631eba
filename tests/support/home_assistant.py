"""A Home Assistant process for tests, and the WebSocket API that its own pages use."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.ports import free_port

_START_TIMEOUT_SECONDS = 120.0
"""Home Assistant starts in about seven seconds on an idle machine."""

_API_TIMEOUT_SECONDS = 30.0

_USER = {"name": "Test", "username": "test", "password": "a password", "language": "en"}
_STARTED = "Home Assistant initialized in"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WARNING_LINE = re.compile(r"^\S+ \S+ (WARNING|ERROR|CRITICAL) ")


class HomeAssistant:
    """A Home Assistant process with a configuration folder of its own.

    The object is bound to no event loop: one process can serve many tests, each with its own loop.

    Args:
        folder: the configuration folder; the configuration is written into it.
        more: lines of configuration besides those that every test needs.

    Attributes:
        port: of its HTTP server.
        token: for its API, once `onboard` has run.
    """

    def __init__(self, folder: Path, more: str = "") -> None:
        self.port = free_port()
        self.token = ""
        self._folder = folder
        self._console = folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "configuration.yaml").write_text(
            f"http:\n  server_host: 127.0.0.1\n  server_port: {self.port}\n"
            "api:\nconfig:\nwebsocket_api:\nrepairs:\nlogger:\n  default: info\n"
            "automation: !include automations.yaml\nscript: !include scripts.yaml\n"
            f"input_boolean:\ninput_button:\ninput_datetime:\ninput_text:\nmobile_app:\npersistent_notification:\n{more}"
        )
        # Home Assistant's pages write these two files.
        (folder / "automations.yaml").write_text("[]\n")
        (folder / "scripts.yaml").write_text("{}\n")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """The log since the first start."""
        return _COLOUR.sub("", self._console.read_text(errors="replace"))

    def warnings(self, since: int = 0) -> Sequence[str]:
        """Return the lines with warnings and errors after the first `since` characters of the log."""
        return [line for line in self.log[since:].splitlines() if _WARNING_LINE.match(line)]

    async def start(self) -> None:
        """Start the process and wait until it is initialized."""
        command = os.environ.get("HOME_ASSISTANT")
        assert command, "HOME_ASSISTANT is not set: run scripts/test --all, which installs a Home Assistant and sets it"
        before = self.log.count(_STARTED) if self._console.exists() else 0
        with self._console.open("ab") as console:
            self._process = subprocess.Popen(
                [command, str(self._folder), "--skip-pip"], stdout=console, stderr=console, start_new_session=True
            )
        async with asyncio.timeout(_START_TIMEOUT_SECONDS):
            while self.log.count(_STARTED) == before:
                assert self._process.poll() is None, self.log
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Stop the process in the regular way, so that it saves its state."""
        process, self._process = self._process, None
        if process is None:
            return
        # Signal the process group: sudo may have started the process, and an ordinary user cannot signal sudo.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, _START_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    async def restart(self) -> None:
        """Stop the process in the regular way and start it again."""
        await self.stop()
        await self.start()

    def freeze(self) -> None:
        """Suspend the process; everything that is sent to it meanwhile arrives at once after `thaw`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the process."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def forget_devices(self) -> None:
        """Delete all devices and entities of a stopped Home Assistant; users and integrations stay."""
        for registry in ("core.device_registry", "core.entity_registry"):
            (self._folder / ".storage" / registry).unlink()

    async def onboard(self) -> None:
        """Create the first user, as the onboarding page does, and get a token for the API."""
        client_id = f"{self.url}/"
        async with aiohttp.ClientSession(self.url, raise_for_status=True) as http:
            async with http.post("/api/onboarding/users", json={**_USER, "client_id": client_id}) as answer:
                code = (await answer.json())["auth_code"]
            form = {"grant_type": "authorization_code", "code": code, "client_id": client_id}
            async with http.post("/auth/token", data=form) as answer:
                session_token = (await answer.json())["access_token"]
        # A session token expires after half an hour.
        async with self._api(session_token) as api:
            self.token = await api.call("auth/long_lived_access_token", client_name="tests", lifespan=1)
            # Without this, Home Assistant reverts the configured port after five minutes and restarts.
            await api.call("http/config/promote")

    async def add_mqtt(self, broker_port: int, protocol: str) -> None:
        """Set up the MQTT integration, as a user does on its page."""
        steps = "/api/config/config_entries/flow"
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(self.url, headers=headers, raise_for_status=True) as http:
            async with http.post(steps, json={"handler": "mqtt"}) as answer:
                form = await answer.json()
            assert form["step_id"] == "broker", form
            given = {
                "broker": "127.0.0.1",
                "port": broker_port,
                "protocol": protocol,
                "other_settings": {"set_client_cert": False, "set_ca_cert": "off", "transport": "tcp"},
            }
            async with http.post(f"{steps}/{form['flow_id']}", json=given) as answer:
                done = await answer.json()
            assert done["type"] == "create_entry", done

    @asynccontextmanager
    async def api(self) -> AsyncIterator["HomeAssistantApi"]:
        """Connect to the API."""
        async with self._api(self.token) as api:
            yield api

    @asynccontextmanager
    async def _api(self, token: str) -> AsyncIterator["HomeAssistantApi"]:
        async with self._connection(token) as websocket:
            yield HomeAssistantApi(websocket)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket to the API and log in, for uses beyond commands and their results."""
        async with self._connection(self.token) as websocket:
            yield websocket

    @asynccontextmanager
    async def _connection(self, token: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with (
            aiohttp.ClientSession(self.url) as http,
            http.ws_connect("/api/websocket", max_msg_size=0) as websocket,
        ):
            assert (await websocket.receive_json())["type"] == "auth_required"
            await websocket.send_json({"type": "auth", "access_token": token})
            assert (await websocket.receive_json())["type"] == "auth_ok"
            yield websocket


class HomeAssistantApi:
    """A connection to the WebSocket API.

    Attributes:
        events: events that have arrived and that no wait has consumed yet.
    """

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.events: list[dict[str, Any]] = []
        self._websocket = websocket
        self._id = 0
        self._subscribed = False

    async def call(self, command: str, **fields: Any) -> Any:
        """Send a command and return its result; events that arrive meanwhile are kept in `events`."""
        self._id += 1
        await self._websocket.send_json({"id": self._id, "type": command, **fields})
        async with asyncio.timeout(_API_TIMEOUT_SECONDS):
            while True:
                message = await self._websocket.receive_json()
                if message["type"] == "event":
                    self.events.append(message["event"])
                elif message["id"] == self._id:
                    assert message["success"], (command, fields, message)
                    return message["result"]

    async def states(self) -> Mapping[str, Mapping[str, Any]]:
        """Return all states, by entity id."""
        return {state["entity_id"]: state for state in await self.call("get_states")}

    async def devices(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the devices of the MQTT integration, by identifier."""
        devices = await self.call("config/device_registry/list")
        return {value: device for device in devices for domain, value in device["identifiers"] if domain == "mqtt"}

    async def entities(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the entities of the MQTT integration, by entity id."""
        entities = await self.call("config/entity_registry/list")
        return {entity["entity_id"]: entity for entity in entities if entity["platform"] == "mqtt"}

    async def areas(self) -> Mapping[str, str]:
        """Return the names of the areas, by id."""
        return {area["area_id"]: area["name"] for area in await self.call("config/area_registry/list")}

    async def issues(self) -> Sequence[Mapping[str, Any]]:
        """Return the open repair issues."""
        issues: list[dict[str, Any]] = (await self.call("repairs/list_issues"))["issues"]
        return issues

    async def press(self, entity_id: str) -> None:
        """Press a button."""
        await self.perform_action("button.press", entity_id)

    async def perform_action(self, action: str, entity_id: str, **data: object) -> None:
        """Perform an action on an entity."""
        domain, _, service = action.partition(".")
        await self.call(
            "call_service", domain=domain, service=service, target={"entity_id": entity_id}, service_data=data
        )

    async def fire(self, event_type: str) -> None:
        """Fire an event."""
        await self.call("fire_event", event_type=event_type)

    async def remove(self, device: Mapping[str, Any]) -> None:
        """Delete a device, as a user does on its page."""
        await self.call("config/device_registry/remove", device_id=device["id"])

    async def set_language(self, language: str) -> None:
        """Set the language of the system."""
        await self.call("config/core/update", language=language)

    async def subscribe_to_events(self) -> None:
        """Subscribe to all events."""
        if not self._subscribed:
            await self.call("subscribe_events")
            self._subscribed = True

    async def wait_event(self, event_type: str) -> Mapping[str, Any]:
        """Return the data of the first event of this type since the last wait; call `subscribe_to_events` before."""
        async with asyncio.timeout(_API_TIMEOUT_SECONDS):
            while True:
                for event in self.events:
                    if event["event_type"] == event_type:
                        data: dict[str, Any] = event["data"]
                        return data
                self.events.append((await self._websocket.receive_json())["event"])

    async def wait_until(self, condition: Callable[[], Awaitable[object]], description: str) -> None:
        """Wait until a condition holds; it is evaluated again after each event."""
        await self.subscribe_to_events()
        try:
            async with asyncio.timeout(_API_TIMEOUT_SECONDS):
                self.events.clear()
                while not await condition():
                    if not self.events:
                        self.events.append((await self._websocket.receive_json())["event"])
                    self.events.clear()
        except TimeoutError:
            raise AssertionError(f"timeout while waiting until {description}") from None

    async def wait_state(self, entity_id: str, *states: str) -> Mapping[str, Any]:
        """Wait until an entity has one of these states; return the state object with its attributes."""
        seen: dict[str, Any] = {}

        async def holds() -> bool:
            seen.clear()
            seen.update((await self.states()).get(entity_id, {}))
            return seen.get("state") in states

        await self.wait_until(holds, f"{entity_id} is {' or '.join(states)}")
        return seen
