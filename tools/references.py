"""Writes the reference pages of the site from the code's tables: configuration, command line, MQTT and HTTP."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from bridge.cli.main import main as command_line
from bridge.config.schema import NamedSections, Section, configuration_schema
from bridge.core.command_definition import NOTHING, PRESS, CommandDefinition
from bridge.core.commands import COMMANDS
from bridge.mqtt.topics import PUBLISHED_TOPICS, PublishedTopic, Scope
from tools import openapi

_ROOT = Path(__file__).parents[1]
_NOTE = "<!-- scripts/describe writes this page from the code -->\n\n"
_WITHOUT_COMMENT = {
    "mqtt.username": "login at the broker",
    "web.username": "login of the page and the API",
    "terminals.known": "terminals with a name, an area, groups or a login of their own, by SN",
    "terminals.known.<SN>.area": "suggested to Home Assistant",
    "terminals.known.<SN>.password": "plain text, or a hash from `facebridge hash-password`",
}
"""Meanings of keys that have no comment in config.yaml."""

_METHODS = ("get", "put", "post", "delete")


def reference_pages() -> dict[str, str]:
    """Return the text of each reference page, by its file name."""
    return {
        "reference-configuration.md": configuration_page((_ROOT / "config.yaml").read_text(encoding="utf-8")),
        "reference-command-line.md": command_line_page(command_line),
        "reference-mqtt.md": mqtt_page(),
        "reference-http.md": http_page(openapi.document()),
    }


def configuration_page(documented: str) -> str:
    """Return the page of all configuration keys.

    Args:
        documented: the text of `config.yaml`; its comments say what the keys mean.

    Raises:
        ValueError: the schema has a key without a comment.
    """
    meanings = _comments(documented)
    schema = configuration_schema(Path())
    lines = [
        "# Configuration",
        "",
        "Every key of `config.yaml`, with its default. Each key can be left out. `facebridge check` checks a file.",
        "",
        "An environment variable can set each key: `FACEBRIDGE_` and the path in capitals, joined with `__`.",
        "`FACEBRIDGE_MQTT__HOST=broker.example.org` sets `mqtt.host`.",
    ]
    for name, (check, _) in schema.keys.items():
        lines += ["", f"## {name}", "", "| key | default | meaning |", "|---|---|---|"]
        assert isinstance(check, Section)
        for path, default in _keys(check, name):
            if path not in meanings:
                raise ValueError(f"config.yaml: {path} has no comment that says what it means")
            lines.append(f"| `{path}` | {_default(default)} | {_cell(meanings[path])} |")
    return _page(lines)


def _keys(section: Section, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the default of each key that has a line of its own in config.yaml."""
    for name, (check, default) in section.keys.items():
        yield f"{path}.{name}", default
        if isinstance(check, NamedSections) and name == "known":
            yield from _keys(check.each, f"{path}.{name}.<SN>")


def _comments(documented: str) -> dict[str, str]:
    """Return the comments of config.yaml by the path of their keys; the example of a known terminal is `<SN>`."""
    found = dict(_WITHOUT_COMMENT)
    above: list[tuple[int, str]] = []
    for line in documented.replace("FEDCBA9876543210", "<SN>").splitlines():
        # Keys of the example are commented out, two columns to the right.
        shown = re.fullmatch(r"( *(?:# +)?)([\w<>]+):(?: .*?)?(?: # (.*))?", line)
        if shown is None:
            continue
        while above and above[-1][0] >= len(shown[1]):
            above.pop()
        if above and above[-1][1] == shown[2] == "known":
            continue
        above.append((len(shown[1]), shown[2]))
        if shown[3]:
            found[".".join(name for _, name in above)] = shown[3]
    return found


def _default(value: Any) -> str:
    if callable(value):
        value = value()
    text = yaml.safe_dump(value, default_flow_style=True, width=200).strip().removesuffix("\n...").strip()
    return f"`{text}`"


def command_line_page(group: click.Command) -> str:
    """Return the page of all commands, with the texts of their `--help`."""
    lines = [
        "# Command line",
        "",
        "The command is `facebridge`. In a checkout, `scripts/run COMMAND` runs `facebridge COMMAND`.",
        "",
        "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. `--help` shows this page's texts.",
    ]
    for path, command in _commands(group, "facebridge"):
        context = click.Context(command, info_name=path)
        pieces = " ".join(command.collect_usage_pieces(context))
        lines += ["", f"## {path}", "", "```text", f"{path} {pieces}".strip(), "```", ""]
        lines += [_help(command.help or ""), ""]
        options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
        if options:
            lines += ["| option | meaning |", "|---|---|"]
            for option in options:
                shown = option.get_help_record(context)
                assert shown is not None
                # GitHub and Python-Markdown disagree on how to write a pipe in code.
                lines.append(f"| `{shown[0].replace('|', '/')}` | {_cell(' '.join(shown[1].split()))} |")
    return _page(lines)


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from _commands(inner, f"{path} {name}")


def _help(text: str) -> str:
    """Return the help of a command as Markdown: a block that click must not wrap is code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.lstrip().startswith("\b"):
            inner = "\n".join(line.strip() for line in paragraph.replace("\b", "").strip().splitlines())
            parts.append(f"```text\n{inner}\n```")
        else:
            parts.append(" ".join(paragraph.split()))
    return "\n\n".join(parts).replace("<", "&lt;")


def mqtt_page() -> str:
    """Return the page of all topics."""
    lines = [
        "# MQTT topics",
        "",
        "`B` is `mqtt.base_topic`, by default `facebridge`. [MQTT](mqtt.md) explains the topics with examples.",
        "[asyncapi.json](asyncapi.json) describes them for programs.",
        "",
        "## Commands",
        "",
        "| topic | command | payload |",
        "|---|---|---|",
    ]
    for definition in COMMANDS:
        meaning, payload = _cell(definition.description), _payload(definition)
        lines += [f"| `B/{target}/{definition.topic}` | {meaning} | {payload} |" for target in _targets(definition)]
    lines += [
        "",
        "## What the bridge publishes",
        "",
        "| topic | retained | QoS | content | payload |",
        "|---|---|---|---|---|",
    ]
    for one in PUBLISHED_TOPICS:
        payloads = ", ".join(_schema_link(payload["title"]) for payload in one.payloads)
        retained = "yes" if one.retain else "no"
        meaning = _cell(one.description)
        lines.append(f"| `B/{_address(one)}` | {retained} | {one.qos} | {meaning} | {payloads} |")
    return _page(lines)


def _address(topic: PublishedTopic) -> str:
    name = {Scope.BRIDGE: "", Scope.TERMINAL: "<SN>/", Scope.GROUP: "<name>/"}[topic.scope]
    return f"{topic.scope.value}/{name}{topic.level}"


def _targets(definition: CommandDefinition) -> Iterator[str]:
    if definition.for_terminal:
        yield "terminal/<SN>"
    if definition.for_group:
        yield "group/<name>"
    if definition.for_bridge:
        yield "bridge"


def _payload(definition: CommandDefinition) -> str:
    plain = [{PRESS: "`PRESS`", NOTHING: "empty"}[one] for one in definition.plain]
    return ", ".join([*plain, _schema_link(definition.payload_schema["title"])])


def _schema_link(title: str) -> str:
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", title).lower()
    return f"[{title}](schemas/{name}.json)"


def http_page(document: Mapping[str, Any]) -> str:
    """Return the page of all routes of an OpenAPI document."""
    lines = [
        "# HTTP routes",
        "",
        "[HTTP](http.md) explains logins, pages of lists and events with examples.",
        "[openapi.json](openapi.json) describes it for programs; a running bridge serves it at `/api/openapi.json`.",
    ]
    for tag in document["tags"]:
        lines += ["", f"## {tag['name'].capitalize()}", "", tag["description"].capitalize() + "."]
        for path, item in document["paths"].items():
            for method in _METHODS:
                if method in item and tag["name"] in item[method]["tags"]:
                    lines += _operation(f"{method.upper()} {path}", item[method])
    return _page(lines)


def _operation(title: str, operation: Mapping[str, Any]) -> list[str]:
    lines = ["", f"### `{title}`", "", f"{operation['summary']}. {operation.get('description', '')}".strip()]
    parameters = operation.get("parameters", [])
    if parameters:
        lines += ["", "| parameter | in | meaning |", "|---|---|---|"]
        lines += [
            f"| `{one['name']}`{' (required)' if one['required'] and one['in'] != 'path' else ''} | {one['in']} "
            f"| {_cell(one['description'])} |"
            for one in parameters
        ]
    if "requestBody" in operation:
        kinds = ", ".join(f"`{kind}`" for kind in operation["requestBody"]["content"])
        lines += ["", f"Body: {kinds}."]
    lines += ["", "| status | meaning |", "|---|---|"]
    lines += [f"| {status} | {_cell(answer['description'])} |" for status, answer in operation["responses"].items()]
    return lines


def _cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").strip()


def _page(lines: list[str]) -> str:
    return _NOTE + re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"
