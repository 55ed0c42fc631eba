"""The script: a bridge as a user writes it in an evening, with aiohttp and aiomqtt.

It checks the password, and that is all: no store, no deadline, no order, no retries, no states. If a terminal is away,
the command is lost. It serves `open/set` and `person/set` with the same messages as the product.

`python -m benchmarks.subjects.plain_script BROKER_PORT BASE_TOPIC` prints `ready: terminals PORT` on stderr.
"""

import asyncio
import base64
import json
import sys
import uuid
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import aiomqtt
from aiohttp import web

AUTHORIZATION = "Basic " + base64.b64encode(b"dev:123").decode()


class Bridge:
    """Terminals by SN, and the requests that wait for an answer by msgid."""

    def __init__(self, mqtt: aiomqtt.Client, base_topic: str) -> None:
        self.mqtt = mqtt
        self.base_topic = base_topic
        self.terminals: dict[str, web.WebSocketResponse] = {}
        self.requests: dict[str, dict[str, Any]] = {}

    async def terminal(self, request: web.Request) -> web.StreamResponse:
        """Serve a terminal until it disconnects."""
        if request.headers.get("Authorization") != AUTHORIZATION:
            raise web.HTTPUnauthorized
        sn = request.match_info["sn"]
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        self.terminals[sn] = websocket
        async for message in websocket:
            if message.type == aiohttp.WSMsgType.TEXT:
                await self.answered(json.loads(message.data))
        return websocket

    async def answered(self, answer: dict[str, Any]) -> None:
        """Publish the reply for a terminal's answer."""
        reply = self.requests.pop(answer["msgid"])
        reply["outcome"] = "ok" if json.loads(answer["msg"])["status"] == 0 else "refused"
        await self.mqtt.publish(f"{self.base_topic}/terminal/{reply['sn']}/reply", json.dumps(reply), qos=1)

    async def commands(self) -> None:
        """Carry out the commands of MQTT."""
        await self.mqtt.subscribe(f"{self.base_topic}/terminal/+/open/set", qos=1)
        await self.mqtt.subscribe(f"{self.base_topic}/terminal/+/person/set", qos=1)
        async for message in self.mqtt.messages:
            _, _, sn, command, _ = message.topic.value.split("/")
            assert isinstance(message.payload, bytes)
            payload = json.loads(message.payload)
            if command == "open":
                await self.request(sn, "open", "", payload["request_id"], None)
                continue
            for person in payload["persons"]:
                form = {
                    "id": person["id"], "name": person["name"], "IC_NO": "00000000", "ID_NO": "00000000",
                    "photo": person["photo"], "startTs": -1, "endTs": -1, "passCount": 10000, "visitor": "false",
                }  # fmt: skip
                encoded = urlencode(form, quote_via=quote, safe="")
                await self.request(sn, "setPerson", encoded, payload["request_id"], person["id"])

    async def request(self, sn: str, command: str, form: str, request_id: str, person_id: str | None) -> None:
        """Send a request to a terminal."""
        msgid = str(uuid.uuid4())
        self.requests[msgid] = {"request_id": request_id, "sn": sn, "command": command, "person_id": person_id}
        await self.terminals[sn].send_str(json.dumps({"msgid": msgid, "sn": sn, "cmd": command, "msg": form}))


async def main(broker_port: int, base_topic: str) -> None:
    """Serve until the process ends."""
    async with aiomqtt.Client("127.0.0.1", broker_port, identifier=f"{base_topic}-script") as mqtt:
        bridge = Bridge(mqtt, base_topic)
        app = web.Application()
        app.router.add_get("/devs/{sn}", bridge.terminal)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(f"ready: terminals {runner.addresses[0][1]}", file=sys.stderr, flush=True)
        await bridge.commands()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
