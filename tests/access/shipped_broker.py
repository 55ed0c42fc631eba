"""Run examples/broker as it is shipped on a real Mosquitto; only its port and its user differ.

In the container the files are below /mosquitto, the working directory; here they are below a folder of the test.
"""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.cli.main import main
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import Heard
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_SECONDS

EXAMPLE = Path(__file__).parents[2] / "examples" / "broker"

BRIDGE, HOME_ASSISTANT, ADMIN, OPERATOR, ENROLLER, WATCHER = USERS = (
    "facebridge", "homeassistant", "manager", "reception", "personnel", "monitoring",
)  # fmt: skip
"""The users of the shipped acl file."""

STRANGER = "stranger"
"""A user with a password and without a role."""

_DYNSEC_ADMIN = "admin"

_NUMBERS = count(1)


def password_of(user: str) -> str:
    return f"password of {user}"


def sections() -> dict[str, str]:
    """Return each user's part of the shipped acl file, by the command line that prints it."""
    parts = (EXAMPLE / "mosquitto" / "acl").read_text().split("# facebridge acl ")[1:]
    return {command: f"# facebridge acl {command}\n{rules.rstrip()}\n" for command, _, rules in
            (part.partition("\n") for part in parts)}  # fmt: skip


def acl(folder: Path, *arguments: str) -> str:
    """Return the output of `facebridge acl` with the shipped configuration."""
    settings = folder / "acl.yaml"
    settings.write_text((EXAMPLE / "facebridge" / "config.yaml").read_text())
    (folder / "ca.pem").touch()
    (folder / "secrets.yaml").write_text('mqtt_password: "x"\nterminal_password: "x"\n')
    done = CliRunner().invoke(main, ["acl", "-c", str(settings), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def dynamic_security_plugin() -> Path:
    found = sorted(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"))
    assert found, "Debian's package mosquitto contains the plugin"
    return found[0]


class ShippedBroker(Mosquitto):
    """The example's broker, with the users of its acl file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.bridge_port = free_port()
        self.folder = folder
        shutil.copytree(EXAMPLE / "mosquitto", folder / "config", ignore=shutil.ignore_patterns("certs", "passwords"))
        (folder / "data").mkdir()
        self._make_certificates()

    @property
    def ca(self) -> Path:
        return self.folder / "config" / "certs" / "ca.pem"

    @property
    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text()

    async def prepare(self) -> None:
        """Set the users' passwords as its README says."""
        file = self.folder / "config" / "passwords"
        file.touch()
        for user in (*USERS, STRANGER):
            self._run("mosquitto_passwd", "-b", str(file), user, password_of(user))

    def _lines(self) -> list[str]:
        shipped = (EXAMPLE / "mosquitto" / "mosquitto.conf").read_text()
        for shipped_port, port in ((8883, self.port), (8884, self.bridge_port)):
            assert shipped.count(f"listener {shipped_port}\n") == 1
            shipped = shipped.replace(f"listener {shipped_port}\n", f"listener {port} 127.0.0.1\n")
        # Debian's Mosquitto otherwise changes to a user that cannot read the folder.
        return ["user root", *shipped.splitlines()]

    def _make_certificates(self) -> None:
        # The script writes next to itself, so its copy writes them here.
        shutil.copy(EXAMPLE / "make-certificates", self.folder)
        (self.folder / "facebridge").mkdir()
        self._run(str(self.folder / "make-certificates"), "broker", "localhost", "127.0.0.1")
        (self.folder / "mosquitto" / "certs").rename(self.folder / "config" / "certs")

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr


class DynamicSecurityBroker(ShippedBroker):
    """The example's broker, with the users of the dynamic security plugin, as its README says."""

    async def prepare(self) -> None:
        password = password_of(_DYNSEC_ADMIN)
        self._run("mosquitto_ctrl", "dynsec", "init", "data/dynamic-security.json", _DYNSEC_ADMIN, password)

    async def start(self) -> None:
        await super().start()
        if len((self.folder / "data" / "dynamic-security.json").read_text()) < 4000:
            await self._make_users()

    async def _make_users(self) -> None:
        control = [
            "mosquitto_ctrl", "--cafile", str(self.ca), "-h", "localhost", "-p", str(self.port),
            "-u", _DYNSEC_ADMIN, "-P", password_of(_DYNSEC_ADMIN), "dynsec",
        ]  # fmt: skip
        await asyncio.to_thread(self._run, *control, "setDefaultACLAccess", "publishClientReceive", "deny")
        messages = [acl(self.folder, *command.split(), "--format", "dynsec") for command in sections()]
        async with connected_user(self, _DYNSEC_ADMIN) as administrator:
            for message in (*messages, '{"commands": [{"command": "createClient", "username": "stranger"}]}'):
                # Twice: role and user exist the second time, and the result must be the same.
                for _ in range(2):
                    await administrator.publish("$CONTROL/dynamic-security/v1", message)
            await administrator.publish(
                "$CONTROL/dynamic-security/v1",
                {"commands": [{"command": "setClientPassword", "username": user, "password": password_of(user)}
                              for user in (*USERS, STRANGER)]},
            )  # fmt: skip

    def _lines(self) -> list[str]:
        kept = [line for line in super()._lines() if not line.startswith(("password_file ", "acl_file "))]
        return [
            *kept,
            f"plugin {dynamic_security_plugin()}",
            "plugin_opt_config_file data/dynamic-security.json",
        ]


@asynccontextmanager
async def shipped_broker(kind: type[ShippedBroker], folder: Path) -> AsyncIterator[ShippedBroker]:
    folder.mkdir()
    broker = kind(folder)
    await broker.prepare()
    async with broker:
        yield broker


class BrokerUser:
    """A client of the broker over TLS that returns the broker's answer to each of its requests."""

    def __init__(
        self, broker: ShippedBroker, user: str, password: str | None = "", client_id: str | None = None
    ) -> None:
        """Build the client.

        Args:
            broker: the broker.
            user: the user name.
            password: the password; empty for the right one, None to log in without a user.
            client_id: another one than the test's own.
        """
        self.user = user
        self.received: list[Heard] = []
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._answers: dict[tuple[str, int], asyncio.Future[Any]] = {}
        self._connected: asyncio.Future[Any] = self._loop.create_future()
        self._port = broker.port
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id or f"{user}-{next(_NUMBERS)}", protocol=MQTTv5
        )
        if password is not None:
            self._client.username_pw_set(user, password or password_of(user))
        self._client.tls_set_context(ssl.create_default_context(cafile=broker.ca))
        self._client.on_connect = lambda _c, _u, _f, reason, _p: self._call(self._is_connected, reason)
        self._client.on_publish = lambda _c, _u, mid, reason, _p: self._call(self._answer, "publish", mid, reason)
        self._client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._call(
            self._answer, "subscribe", mid, reasons[0]
        )
        self._client.on_message = lambda _c, _u, message: self._call(self._on_message, message)

    async def connect(self) -> None:
        await asyncio.to_thread(self._client.connect, "localhost", self._port)
        self._client.loop_start()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reason = await self._connected
        assert not reason.is_failure, f"{self.user}: {reason}"

    async def disconnect(self) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def may_publish(self, topic: str, payload: object = b"", *, retain: bool = False, **properties: str) -> bool:
        """Publish with QoS 1; return whether the broker accepted it."""
        data = payload if isinstance(payload, bytes | str) else orjson.dumps(payload)
        packet_properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho carries no types
        for name, value in properties.items():
            setattr(packet_properties, name, value)
        mid = self._client.publish(topic, data, qos=1, retain=retain, properties=packet_properties).mid
        return not (await self._answered("publish", mid)).is_failure

    async def publish(self, topic: str, payload: object = b"", *, retain: bool = False, **properties: str) -> None:
        assert await self.may_publish(topic, payload, retain=retain, **properties), f"{self.user} on {topic}"

    async def may_subscribe(self, topic: str) -> bool:
        _, mid = self._client.subscribe(topic, 1)
        assert mid is not None
        return not (await self._answered("subscribe", mid)).is_failure

    async def subscribe(self, *topics: str) -> None:
        for topic in topics:
            assert await self.may_subscribe(topic), f"{self.user} on {topic}"

    async def wait_for(self, topic: str, **values: Any) -> Heard:
        """Return the first message of a topic whose JSON has these values; wait for it if necessary."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while True:
                    for one in self.received:
                        if one.topic == topic and (
                            not values or all(one.json.get(key) == value for key, value in values.items())
                        ):
                            return one
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"{self.user} waited for {topic} {values}, received {self.received!r}"[:3000]
            ) from None

    async def _answered(self, kind: str, mid: int) -> Any:
        future = self._answers.setdefault((kind, mid), self._loop.create_future())
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await future
        return self._answers.pop((kind, mid)).result()

    def _answer(self, kind: str, mid: int, reason: Any) -> None:
        self._answers.setdefault((kind, mid), self._loop.create_future()).set_result(reason)

    def _is_connected(self, reason: Any) -> None:
        if not self._connected.done():
            self._connected.set_result(reason)

    def _on_message(self, message: MQTTMessage) -> None:
        self.received.append(Heard(message.topic, bytes(message.payload), message.qos, message.retain))
        self._changed.set()

    def _call(self, function: Any, *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


@asynccontextmanager
async def connected_user(broker: ShippedBroker, user: str, *topics: str) -> AsyncIterator[BrokerUser]:
    client = BrokerUser(broker, user)
    await client.connect()
    try:
        await client.subscribe(*topics)
        yield client
    finally:
        await client.disconnect()


@asynccontextmanager
async def connected_users(broker: ShippedBroker, users: Sequence[str]) -> AsyncIterator[dict[str, BrokerUser]]:
    clients = {user: BrokerUser(broker, user) for user in users}
    try:
        for client in clients.values():
            await client.connect()
        yield clients
    finally:
        for client in clients.values():
            await client.disconnect()


def bridge_environment(broker: ShippedBroker, folder: Path) -> dict[str, str]:
    """Copy the bridge's shipped configuration; return the environment variables that override parts of it."""
    (folder / "secrets.yaml").write_text(f'mqtt_password: "{password_of(BRIDGE)}"\nterminal_password: "123"\n')
    shutil.copy(EXAMPLE / "facebridge" / "config.yaml", folder / "config.yaml")
    shutil.copy(broker.folder / "facebridge" / "ca.pem", folder / "ca.pem")
    return {
        "FACEBRIDGE_MQTT__HOST": "localhost",
        "FACEBRIDGE_MQTT__PORT": str(broker.bridge_port),
        "FACEBRIDGE_TERMINALS__PORT": "0",
        "FACEBRIDGE_WEB__PORT": "0",
        "FACEBRIDGE_STORE__URL": f"sqlite:///{folder / 'store.db'}",
        "FACEBRIDGE_TERMINALS__KNOWN": "{T1: {groups: [lobby]}}",
    }
