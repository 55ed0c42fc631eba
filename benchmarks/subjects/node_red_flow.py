"""The flow: a bridge of Node-RED's own nodes, as a user draws it.

Node-RED's WebSocket nodes listen on fixed paths, so each terminal has nodes of its own: MQTT in, a function, WebSocket
out; and back. It has no login (Node-RED has one for all paths at most), no store, no deadline, no order and no retries.
"""

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.subjects.setting import Setting

_REQUEST = """
const SN = 'THE SN';
const command = msg.topic.split('/')[3];
const waiting = flow.get('waiting') || {};
flow.set('waiting', waiting);
const persons = command === 'person' ? msg.payload.persons : [null];
return [persons.map(person => {
    const msgid = RED.util.generateId();
    waiting[msgid] = {
        request_id: msg.payload.request_id, sn: SN,
        command: person ? 'setPerson' : 'open', person_id: person && person.id
    };
    const form = person === null ? '' : Object.entries({
        id: person.id, name: person.name, IC_NO: '00000000', ID_NO: '00000000', photo: person.photo,
        startTs: -1, endTs: -1, passCount: 10000, visitor: false
    }).map(([name, value]) => name + '=' + encodeURIComponent(value)).join('&');
    return {payload: JSON.stringify({msgid: msgid, sn: SN, cmd: waiting[msgid].command, msg: form})};
})];
"""

_REPLY = """
const answer = JSON.parse(msg.payload);
const waiting = flow.get('waiting');
const reply = waiting[answer.msgid];
delete waiting[answer.msgid];
reply.outcome = JSON.parse(answer.msg).status === 0 ? 'ok' : 'refused';
return {payload: reply};
"""


def write_flow(setting: Setting) -> None:
    """Write the flow for all terminals into the user directory."""
    nodes = [*_common(setting)]
    for number in range(1, setting.terminals + 1):
        nodes += _terminal(setting, f"T{number}")
    (setting.folder / "flows.json").write_text(json.dumps(nodes))


def _common(setting: Setting) -> Iterator[dict[str, Any]]:
    yield {"id": "tab", "type": "tab", "label": "bridge", "disabled": False, "info": ""}
    yield {
        "id": "broker", "type": "mqtt-broker", "name": "", "broker": "127.0.0.1", "port": str(setting.broker_port),
        "clientid": f"{setting.base_topic}-flow", "autoConnect": True, "usetls": False, "protocolVersion": "4",
        "keepalive": "60", "cleansession": True,
    }  # fmt: skip


def _terminal(setting: Setting, sn: str) -> Iterator[dict[str, Any]]:
    topic = f"{setting.base_topic}/terminal/{sn}"
    on_tab = {"z": "tab", "x": 0, "y": 0}
    request = _REQUEST.replace("THE SN", sn)
    function = {**on_tab, "type": "function", "outputs": 1, "noerr": 0, "initialize": "", "finalize": "", "libs": []}
    mqtt = {**on_tab, "qos": "1", "broker": "broker"}
    websocket = {**on_tab, "server": f"{sn}-listener", "client": ""}
    for command in ("open", "person"):
        yield {
            **mqtt, "id": f"{sn}-{command}", "type": "mqtt in", "topic": f"{topic}/{command}/set", "datatype": "json",
            "nl": False, "rap": True, "rh": 0, "inputs": 0, "wires": [[f"{sn}-request"]],
        }  # fmt: skip
    yield {**function, "id": f"{sn}-request", "func": request, "wires": [[f"{sn}-out"]]}
    yield {**websocket, "id": f"{sn}-out", "type": "websocket out", "wires": []}
    yield {"id": f"{sn}-listener", "type": "websocket-listener", "path": f"/devs/{sn}", "wholemsg": "false"}
    yield {**websocket, "id": f"{sn}-in", "type": "websocket in", "wires": [[f"{sn}-reply"]]}
    yield {**function, "id": f"{sn}-reply", "func": _REPLY, "wires": [[f"{sn}-publish"]]}
    yield {**mqtt, "id": f"{sn}-publish", "type": "mqtt out", "topic": f"{topic}/reply", "retain": "", "wires": []}
