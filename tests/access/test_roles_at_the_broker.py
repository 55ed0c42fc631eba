"""The access of each role to each topic, on a real Mosquitto with the shipped files: acl_file and dynamic security.

The table is written by hand; the rules that the code makes of its roles must have the same effect at the broker.
"""

import re
from pathlib import Path

import pytest

from bridge.core.commands import COMMANDS
from bridge.mqtt.access.roles import Role
from tests.access.shipped_broker import (
    ADMIN,
    BRIDGE,
    ENROLLER,
    HOME_ASSISTANT,
    OPERATOR,
    STRANGER,
    USERS,
    WATCHER,
    BrokerUser,
    DynamicSecurityBroker,
    ShippedBroker,
    connected_users,
    shipped_broker,
)
from tests.support.mqtt_client import MqttClient

ROOT = Path(__file__).parents[2]

TABLE = """
topic                                  bridge  home_assistant  admin  operator  enroller  watcher  stranger
facebridge/terminal/T1/open/set        r       w               w      w         -         -        -
facebridge/terminal/T1/reboot/set      r       w               w      -         -         -        -
facebridge/terminal/T1/person/set      r       -               w      -         w         -        -
facebridge/terminal/T1/person/remove   r       -               w      -         w         -        -
facebridge/terminal/T1/person/get      r       -               w      -         w         -        -
facebridge/terminal/T1/person/sync     r       w               w      -         w         -        -
facebridge/group/all/open/set          r       w               w      w         -         -        -
facebridge/group/all/reboot/set        r       w               w      -         -         -        -
facebridge/group/all/person/set        r       -               w      -         w         -        -
facebridge/group/all/person/remove     r       -               w      -         w         -        -
facebridge/group/all/person/sync       r       w               w      -         w         -        -
facebridge/bridge/admit/set            r       -               w      -         -         -        -
facebridge/bridge/forget/set           r       -               w      -         -         -        -
facebridge/bridge/availability         w       r               r      r         r         r        -
facebridge/bridge/info                 w       r               r      r         r         r        -
facebridge/bridge/event                w       r               r      r         r         r        -
facebridge/bridge/reply                w       r               r      r         r         -        -
facebridge/bridge/heartbeat            rw      -               -      -         -         -        -
facebridge/terminal/T1/availability    w       r               r      r         r         r        -
facebridge/terminal/T1/state           w       r               r      r         r         r        -
facebridge/terminal/T1/reply           w       r               r      r         r         -        -
facebridge/terminal/T1/message         w       -               r      -         -         -        -
facebridge/group/all/reply             w       r               r      r         r         r        -
facebridge-replies/manager/1           w       -               rw     -         -         -        -
facebridge-replies/reception/1         w       -               -      rw        -         -        -
facebridge-replies/personnel/1         w       -               -      -         rw        -        -
facebridge/doctor/1/trial              rw      -               -      -         -         -        -
homeassistant/device/facebridge/config w       r               -      -         -         -        -
homeassistant/status                   r       rw              -      -         -         -        -
homeassistant/switch/other/config      -       r               -      -         -         -        -
facebridge/terminal/T1/open            -       -               -      -         -         -        -
facebridge/terminal/T1/open/set/more   -       -               -      -         -         -        -
facebridge/group/all/person/get        -       -               -      -         -         -        -
facebridge                             -       -               -      -         -         -        -
lights/hall/set                        -       -               -      -         -         -        -
$CONTROL/dynamic-security/v1           -       -               -      -         -         -        -
"""

USER_OF = {
    "bridge": BRIDGE,
    "home_assistant": HOME_ASSISTANT,
    "admin": ADMIN,
    "operator": OPERATOR,
    "enroller": ENROLLER,
    "watcher": WATCHER,
    "stranger": STRANGER,
}

HEADER, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
EXPECTED = {topic: dict(zip(HEADER[1:], cells, strict=True)) for topic, *cells in ROWS}

BROKERS = pytest.mark.parametrize(
    "kind", [pytest.param(ShippedBroker, id="acl_file"), pytest.param(DynamicSecurityBroker, id="dynsec")]
)


def table(found: dict[str, dict[str, str]]) -> str:
    """Return a table in the form of the one above, so that pytest shows a difference in its row."""
    lines = [f"{HEADER[0]:<38} " + "  ".join(HEADER[1:])]
    for topic, cells in found.items():
        lines.append(f"{topic:<38} " + "  ".join(f"{cells[role]:<{len(role)}}" for role in HEADER[1:]).rstrip())
    return "\n".join(lines)


@BROKERS
async def test_each_role_has_the_access_of_the_table(kind: type[ShippedBroker], tmp_path: Path) -> None:
    async with (
        shipped_broker(kind, tmp_path / "broker") as broker,
        connected_users(broker, list(USER_OF.values())) as users,
    ):
        roles = {role: users[user] for role, user in USER_OF.items()}
        for client in roles.values():
            # With an acl_file every subscription succeeds; only the messages that arrive count.
            await client.may_subscribe("#")
            for topic in EXPECTED:
                await client.may_subscribe(topic)
        written = {
            topic: {role: await client.may_publish(topic, b"{}") for role, client in roles.items()}
            for topic in EXPECTED
        }
        for role, client in roles.items():
            if role != "stranger":
                # When this message arrives, all earlier ones have arrived.
                last = "facebridge/bridge/heartbeat" if role == "bridge" else "facebridge/bridge/availability"
                await roles["bridge"].publish(last, b'{"last": true}')
                await client.wait_for(last, last=True)
        found = {
            topic: {
                role: ("r" if any(one.topic == topic for one in client.received) else "")
                + ("w" if written[topic][role] else "")
                or "-"
                for role, client in roles.items()
            }
            for topic in EXPECTED
        }
    print(table(found))
    # No role may write this topic, so no reader shows; Home Assistant reads all of its own prefix.
    found["homeassistant/switch/other/config"]["home_assistant"] = "r"
    assert table(found) == table(EXPECTED)


def test_the_table_contains_every_command_and_every_publication() -> None:
    missing = []
    for command in COMMANDS:
        names = [
            *(["terminal/T1"] if command.for_terminal else []),
            *(["group/all"] if command.for_group else []),
            *(["bridge"] if command.for_bridge else []),
        ]
        missing += [name for name in names if f"facebridge/{name}/{command.topic}" not in EXPECTED]
    topics = (ROOT / "docs" / "mqtt.md").read_text().partition("## What you hear")[2].partition("\n\n### ")[0]
    published = re.findall(r"^\| `B/(.*?)` \|", topics, re.MULTILINE)
    assert len(published) > 8
    concrete = [topic.replace("<SN>", "T1").replace("<name>", "all").replace("…", "1/trial") for topic in published]
    missing += [topic for topic in concrete if f"facebridge/{topic}" not in EXPECTED]
    assert not missing
    assert set(HEADER[1:]) == {*Role, STRANGER}
    assert set(USER_OF.values()) == {*USERS, STRANGER}


@BROKERS
async def test_a_login_needs_the_password_and_tls(kind: type[ShippedBroker], tmp_path: Path) -> None:
    async with shipped_broker(kind, tmp_path / "broker") as broker:
        anonymous = BrokerUser(broker, OPERATOR, password=None)
        with pytest.raises(AssertionError, match="Not authorized"):
            await anonymous.connect()
        await anonymous.disconnect()
        wrong = BrokerUser(broker, OPERATOR, password="wrong")
        with pytest.raises(AssertionError, match="Not authorized"):
            await wrong.connect()
        await wrong.disconnect()
        plain = MqttClient(broker.port)
        with pytest.raises(TimeoutError):
            await plain.connect()
        await plain.disconnect()
