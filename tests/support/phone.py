"""A phone with Home Assistant's companion app, which receives notifications over the app's push channel."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.support.home_assistant import HomeAssistant

_TIMEOUT_SECONDS = 30.0
"""Some notifications come only after an automation has waited."""

Notification = Mapping[str, Any]
"""A notification as the app receives it: `title`, `message`, and `data` with `tag`, `actions` …"""


class Phone:
    """The app on a phone, registered with Home Assistant.

    Attributes:
        name: the phone's name.
        device_id: the id of its device in Home Assistant.
        notifications: all notifications so far.
    """

    def __init__(
        self, home_assistant: HomeAssistant, name: str, device_id: str, webhook_id: str, http: aiohttp.ClientSession
    ) -> None:
        self.name = name
        self.device_id = device_id
        self.notifications: list[Notification] = []
        self._home_assistant = home_assistant
        self._webhook_id = webhook_id
        self._http = http
        self._received = asyncio.Event()

    async def wait_for(self, matches: Callable[[Notification], bool], *, after: int = 0) -> Notification:
        """Return the first notification that matches, without the first `after` ones; wait for it if necessary."""
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                while True:
                    for notification in self.notifications[after:]:
                        if matches(notification):
                            return notification
                    self._received.clear()
                    await self._received.wait()
        except TimeoutError:
            raise AssertionError(f"timeout: {self.name} has received {self.notifications}") from None

    async def wait_for_text(self, text: str, *, after: int = 0) -> Notification:
        """Return the first notification that contains a text; wait for it if necessary."""
        return await self.wait_for(lambda one: text in f"{one.get('title')}\n{one['message']}", after=after)

    async def choose(self, notification: Notification, title: str, *, reply_text: str | None = None) -> None:
        """Tap the action with this title; `reply_text` is typed if the action asks for a text."""
        actions = {action["title"]: action for action in notification["data"]["actions"]}
        chosen = actions[title]
        assert (chosen.get("behavior") == "textInput") is (reply_text is not None), chosen
        event_data = {"action": chosen["action"], **notification["data"], "message": notification["message"]}
        if reply_text is not None:
            event_data["reply_text"] = reply_text
        await self._send("fire_event", event_type="mobile_app_notification_action", event_data=event_data)

    async def _send(self, kind: str, **data: object) -> None:
        url = f"{self._home_assistant.url}/api/webhook/{self._webhook_id}"
        async with self._http.post(url, json={"type": kind, "data": data}) as answer:
            assert answer.status == 200, await answer.text()

    async def listen(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Receive notifications until the connection ends."""
        async for message in websocket:
            received = message.json()
            if received["type"] == "event":
                self.notifications.append(received["event"])
                self._received.set()


@asynccontextmanager
async def phone_of(home_assistant: HomeAssistant, name: str) -> AsyncIterator[Phone]:
    """Register a phone and connect it; at the end, delete its device from Home Assistant."""
    headers = {"Authorization": f"Bearer {home_assistant.token}"}
    registration = {
        "app_id": "tests",
        "app_name": "Tests",
        "app_version": "1",
        "device_id": name,
        "device_name": name,
        "manufacturer": "Tests",
        "model": "Phone",
        "os_name": "Android",
        "os_version": "16",
        "supports_encryption": False,
        "app_data": {"push_websocket_channel": True},
    }
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.post(f"{home_assistant.url}/api/mobile_app/registrations", json=registration) as answer:
            assert answer.status == 201, await answer.text()
            webhook_id = (await answer.json())["webhook_id"]
        async with home_assistant.api() as api:
            devices = await api.call("config/device_registry/list")
            (device_id,) = (device["id"] for device in devices if ["mobile_app", name] in device["identifiers"])
            (entry_id,) = (
                entry["entry_id"]
                for entry in await api.call("config_entries/get", domain="mobile_app")
                if entry["title"] == name
            )
        phone = Phone(home_assistant, name, device_id, webhook_id, http)
        try:
            async with home_assistant.connection() as websocket:
                await websocket.send_json(
                    {"id": 1, "type": "mobile_app/push_notification_channel", "webhook_id": webhook_id}
                )
                assert (await websocket.receive_json())["success"]
                async with asyncio.TaskGroup() as tasks:
                    listening = tasks.create_task(phone.listen(websocket))
                    try:
                        yield phone
                    finally:
                        listening.cancel()
        finally:
            url = f"{home_assistant.url}/api/config/config_entries/entry/{entry_id}"
            async with http.delete(url) as answer:
                assert answer.status == 200, await answer.text()
