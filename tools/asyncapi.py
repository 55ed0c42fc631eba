"""The AsyncAPI 3 document of the bridge's MQTT topics: the bridge receives commands and sends everything else."""

from collections.abc import Sequence
from typing import Any

from bridge import __version__
from bridge.core.command_definition import NOTHING, PRESS, CommandDefinition
from bridge.core.commands import COMMANDS
from bridge.model.json_schema import JsonSchema
from bridge.model.names import ALL_TERMINALS, GROUP_NAME, SERIAL_NUMBER
from bridge.model.schema_catalogue import Catalogue
from bridge.mqtt.command_reader import MAXIMUM_CORRELATION_DATA_LENGTH
from bridge.mqtt.topics import (
    BRIDGE_REPLY,
    GROUP_REPLY,
    MAXIMUM_RESPONSE_TOPIC_LENGTH,
    PUBLISHED_TOPICS,
    TERMINAL_REPLY,
    PublishedTopic,
    Scope,
    Topics,
    scopes,
)

_MQTT_BINDING = "0.2.0"

_DESCRIPTION = """\
Face-recognition door terminals on MQTT. Operations are named from the bridge's view: publish what it *receives*,
subscribe to what it *sends*.

- **A door never opens late**: `open` and `reboot` are carried out at once or not at all; the reply says which.
- **A person never gets lost**: publish person changes with QoS 1. `accepted` says that one is stored; `ok`, `refused`
  or `superseded` follows under the same `request_id`.
- **Never publish a retained command**: it is not carried out.
- With MQTT 5 you may give a Response Topic outside the base topic and the discovery prefix, and Correlation Data: the
  replies (for a group, its summary) are also published there.
- Later versions may add keys to what the bridge publishes; in commands, unknown keys are `invalid`.

The discovery messages are not described here, because Home Assistant defines their format."""

_NAMES = {
    Scope.TERMINAL: "sn",
    Scope.GROUP: "group",
}
"""The parameter for the name in the topics of each scope."""

_PARAMETERS = {
    "base": {
        "description": "`mqtt.base_topic` of the bridge's configuration: one or more levels",
        "default": "facebridge",
    },
    "sn": {
        "description": f"a terminal's serial number, `{SERIAL_NUMBER.pattern}`",
        "examples": ["FEDCBA9876543210"],
    },
    "group": {
        "description": f"a group's name, `{GROUP_NAME.pattern}`; `{ALL_TERMINALS}` is every known terminal",
        "examples": ["lobby", ALL_TERMINALS],
    },
}

_REPLIES = {Scope.TERMINAL: TERMINAL_REPLY, Scope.GROUP: GROUP_REPLY, Scope.BRIDGE: BRIDGE_REPLY}

_PLAIN = {PRESS: "press", NOTHING: "nothing"}

_RESPONSE_TOPIC = "responseTopic"


def asyncapi_document(catalogue: Catalogue) -> dict[str, Any]:
    """Return the document, which contains everything that it refers to."""
    topics = Topics("{base}")
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {
        "press": _plain_message("The payload of Home Assistant's buttons.", PRESS),
        "nothing": _plain_message("An empty payload; for `open` and `reboot` only with MQTT 5.", NOTHING),
    }
    for publication in PUBLISHED_TOPICS:
        key = _key(publication.scope, publication.level)
        for payload in publication.payloads:
            messages[_lower(payload["title"])] = _output_message(payload, is_json=publication.is_json)
        channels[key] = _channel(
            _topic(topics, publication), publication.scope, publication.description, _message_keys(publication)
        )
        operations[f"send{_upper(key)}"] = {
            "action": "send",
            **_on(key, _message_keys(publication)),
            "summary": publication.description,
            "bindings": _operation_binding(qos=publication.qos, retain=publication.retain),
        }
    replies = sorted({key for one in _REPLIES.values() for key in _message_keys(one)})
    channels[_RESPONSE_TOPIC] = {
        "address": None,
        "description": "The Response Topic of an MQTT 5 command, with its Correlation Data.",
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in replies},
    }
    operations[f"send{_upper(_RESPONSE_TOPIC)}"] = {
        "action": "send",
        **_on(_RESPONSE_TOPIC, replies),
        "summary": "The replies to a command (for a group, its summary), in addition to those on the public topic.",
        "bindings": _operation_binding(qos=1, retain=False),
    }
    for definition in COMMANDS:
        messages[_lower(definition.payload_schema["title"])] = _command_message(definition)
        keys = [_lower(definition.payload_schema["title"]), *(_PLAIN[one] for one in definition.plain)]
        for scope in scopes(definition):
            key = _key(scope, definition.topic)
            topic = topics.command(scope, f"{{{_NAMES.get(scope)}}}", definition)
            channels[key] = _channel(topic, scope, definition.description, keys)
            operations[f"receive{_upper(key)}"] = {
                "action": "receive",
                **_on(key, keys),
                "summary": definition.description,
                "description": _advice(definition, scope),
                "bindings": _operation_binding(qos=1, retain=False),
                "reply": _on(_key(_REPLIES[scope].scope, _REPLIES[scope].level), _message_keys(_REPLIES[scope])),
            }
    return {
        "asyncapi": "3.0.0",
        "id": "urn:facebridge:mqtt",
        "info": {
            "title": "Facebridge",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "url": "https://spdx.org/licenses/MIT.html"},
            "tags": [{"name": "mqtt"}, {"name": "access control"}],
        },
        "defaultContentType": "application/json",
        "servers": {
            "plain": _server("mqtt", "1883", [_security("password")]),
            "tls": _server("mqtts", "8883", [_security("password"), _security("certificate")]),
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": {title: catalogue.schema(title, "#/components/schemas/") for title in catalogue},
            "messages": messages,
            "parameters": _PARAMETERS,
            "securitySchemes": {
                "password": {"type": "userPassword", "description": "a user of the broker"},
                "certificate": {"type": "X509", "description": "a client's certificate, if the broker requires it"},
            },
        },
    }


def _server(protocol: str, port: str, security: Sequence[dict[str, str]]) -> dict[str, Any]:
    return {
        "host": f"{{host}}:{port}",
        "protocol": protocol,
        "protocolVersion": "5",
        "description": "The broker to which the bridge is connected with MQTT 5 or 3.1.1.",
        "variables": {"host": {"default": "localhost", "description": "the broker's address"}},
        "security": list(security),
    }


def _security(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/securitySchemes/{name}"}


def _topic(topics: Topics, publication: PublishedTopic) -> str:
    return topics.of(publication, f"{{{_NAMES.get(publication.scope)}}}")


def _channel(topic: str, scope: Scope, description: str, message_keys: Sequence[str]) -> dict[str, Any]:
    parameters = ["base", *([_NAMES[scope]] if scope in _NAMES else [])]
    return {
        "address": topic,
        "description": description,
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in parameters},
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in message_keys},
    }


def _on(channel: str, message_keys: Sequence[str]) -> dict[str, Any]:
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{key}"} for key in message_keys],
    }


def _advice(definition: CommandDefinition, scope: Scope) -> str:
    advice = ["Publish it without the retain flag."]
    if not definition.urgent:
        advice.append("Publish it with QoS 1: with QoS 0 the broker may drop it before it reaches the bridge.")
    if scope is Scope.GROUP:
        advice.append("Each member also replies on its own topic.")
    return " ".join(advice)


def _operation_binding(*, qos: int, retain: bool) -> dict[str, Any]:
    return {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": _MQTT_BINDING}}


def _message(schema: JsonSchema) -> dict[str, Any]:
    title = schema["title"]
    message = {
        "name": title,
        "title": title,
        "summary": schema["description"].partition("\n")[0],
        "payload": {"$ref": f"#/components/schemas/{title}"},
    }
    if "examples" in schema:
        message["examples"] = [{"payload": example} for example in schema["examples"]]
    return message


def _output_message(schema: JsonSchema, *, is_json: bool) -> dict[str, Any]:
    message = {**_message(schema), "contentType": "application/json" if is_json else "text/plain"}
    if "request_id" in schema.get("properties", {}):
        message["correlationId"] = _CORRELATION
    return message


def _command_message(definition: CommandDefinition) -> dict[str, Any]:
    return {
        **_message(definition.payload_schema),
        "contentType": "application/json",
        "correlationId": _CORRELATION,
        "bindings": {"mqtt": _REPLY_PROPERTIES},
    }


def _plain_message(summary: str, payload: bytes) -> dict[str, Any]:
    text = payload.decode()
    return {
        "name": _upper(_PLAIN[payload]),
        "title": _upper(_PLAIN[payload]),
        "summary": summary,
        "contentType": "text/plain",
        "payload": {"type": "string", "const": text},
        "examples": [{"payload": text}],
        "bindings": {"mqtt": _REPLY_PROPERTIES},
    }


_CORRELATION = {"location": "$message.payload#/request_id", "description": "chosen by the sender"}

_REPLY_PROPERTIES = {
    "responseTopic": {
        "type": "string",
        "maxLength": MAXIMUM_RESPONSE_TOPIC_LENGTH,
        "description": "a topic outside the base topic, on which the replies are also published",
    },
    "correlationData": {
        "type": "string",
        "description": f"returned unchanged with the replies, at most {MAXIMUM_CORRELATION_DATA_LENGTH} bytes",
    },
    "bindingVersion": _MQTT_BINDING,
}


def _message_keys(publication: PublishedTopic) -> list[str]:
    return [_lower(payload["title"]) for payload in publication.payloads]


def _key(scope: Scope, levels: str) -> str:
    return scope.value + "".join(_upper(level) for level in levels.split("/"))


def _upper(word: str) -> str:
    return word[:1].upper() + word[1:]


def _lower(word: str) -> str:
    return word[:1].lower() + word[1:]
