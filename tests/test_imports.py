"""Dependencies point inwards (ARCHITECTURE.md): a walk over every import, failing an upward or sideways one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "bridge"

ALLOWED: dict[str, set[str]] = {
    "protocol": set(),
    "model": set(),
    "config": {"model"},
    "store": {"model"},
    "hub": {"model", "protocol"},
    "roster": {"model", "protocol", "hub"},
    "files": {"model", "roster"},
    "terminals": {"model", "protocol", "hub", "config"},
    "mqtt": {"model", "hub", "config"},
    "web": {"model", "hub", "config"},
    "broker_access": {"hub", "mqtt"},
    "simulator": {"protocol"},
    "transfer": {"model", "hub", "roster", "files"},
    "contract": {"model", "hub", "roster", "mqtt"},
    "doctor": {"model", "hub", "config", "store", "mqtt", "terminals"},
    "home_assistant_app": {"model", "config", "store", "app", "command_support", "logs"},
}
"""What each part may import besides itself; `home_assistant_app`, `contract` and `doctor` are composition, too.

The modules at the top (app, cli, …) know everything, and nobody them.
"""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        if len(parts) > 1:
            yield parts[0], path


def imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.lineno, node.module


def test_every_part_has_its_rule() -> None:
    assert {part for part, _ in modules()} == set(ALLOWED)


@pytest.mark.parametrize(("part", "path"), [pytest.param(*one, id=str(one[1].relative_to(ROOT))) for one in modules()])
def test_dependencies_point_inwards(part: str, path: Path) -> None:
    wrong = [
        f"{path.name}:{line} imports {name}"
        for line, name in imported(path)
        if name.split(".")[0] == "bridge" and name != "bridge" and name.split(".")[1] not in ALLOWED[part] | {part}
    ]
    assert not wrong


@pytest.mark.parametrize("part", ["protocol", "model"])
def test_the_inside_does_no_io(part: str) -> None:
    forbidden = {"asyncio", "logging", "socket", "aiohttp", "paho", "sqlalchemy"}
    wrong = [
        f"{path.name}:{line} imports {name}"
        for owner, path in modules()
        if owner == part
        for line, name in imported(path)
        if name.split(".")[0] in forbidden
    ]
    assert not wrong
