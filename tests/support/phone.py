"""A phone with Home Assistant's companion app, as Home Assistant sees it: it is told over the app's own channel."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.support.home_assistant import HomeAssistant

_PATIENCE = 30.0
"""Seconds for a notification to come: some go out when an automation has waited for something."""

Notification = Mapping[str, Any]
"""As the app gets it: `title`, `message`, and `data` with `tag`, `actions` …"""


class Phone:
    """The app, registered with Home Assistant.

    Attributes:
        name: of the phone.
        device_id: of its device in Home Assistant.
        told: all notifications so far.
    """

    def __init__(
        self, home_assistant: HomeAssistant, name: str, device_id: str, webhook_id: str, http: aiohttp.ClientSession
    ) -> None:
        self.name = name
        self.device_id = device_id
        self.told: list[Notification] = []
        self._home_assistant = home_assistant
        self._webhook_id = webhook_id
        self._http = http
        self._news = asyncio.Event()

    async def wait_for(self, fits: Callable[[Notification], bool], *, after: int = 0) -> Notification:
        """Wait until a notification fits that came after that many others, and return it."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    for notification in self.told[after:]:
                        if fits(notification):
                            return notification
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} waited in vain; it was told {self.told}") from None

    async def wait_for_text(self, text: str, *, after: int = 0) -> Notification:
        """Wait until a notification holds a text, and return it."""
        return await self.wait_for(lambda told: text in f"{told.get('title')}\n{told['message']}", after=after)

    async def choose(self, notification: Notification, title: str, *, reply_text: str | None = None) -> None:
        """Tap one of a notification's actions; where it asks for a text, give it."""
        actions = {action["title"]: action for action in notification["data"]["actions"]}
        chosen = actions[title]
        assert (chosen.get("behavior") == "textInput") is (reply_text is not None), chosen
        told = {"action": chosen["action"], **notification["data"], "message": notification["message"]}
        if reply_text is not None:
            told["reply_text"] = reply_text
        await self._send("fire_event", event_type="mobile_app_notification_action", event_data=told)

    async def _send(self, kind: str, **data: object) -> None:
        url = f"{self._home_assistant.url}/api/webhook/{self._webhook_id}"
        async with self._http.post(url, json={"type": kind, "data": data}) as answer:
            assert answer.status == 200, await answer.text()

    async def listen(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Take notifications until the connection ends."""
        async for message in websocket:
            heard = message.json()
            if heard["type"] == "event":
                self.told.append(heard["event"])
                self._news.set()


@asynccontextmanager
async def phone_of(home_assistant: HomeAssistant, name: str) -> AsyncIterator[Phone]:
    """Register a phone, connected until the end; its device stays in Home Assistant until then too."""
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
