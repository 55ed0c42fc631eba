"""Dependencies point inwards (ARCHITECTURE.md): a walk over every import, failing an upward or sideways one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "bridge"

EVERYTHING = {
    "app",
    "config",
    "control",
    "core",
    "doctor",
    "home_assistant_app",
    "import_export",
    "model",
    "mqtt",
    "net",
    "persons",
    "protocol",
    "simulator",
    "store",
    "terminals",
    "web",
}

ALLOWED: dict[str, set[str]] = {
    "protocol": set(),
    "model": set(),
    "config": {"model"},
    "store": {"model"},
    "core": {"model", "protocol"},
    "control": {"model", "core"},
    "net": {"model", "core"},
    "persons": {"model", "protocol", "core", "store"},
    "import_export": {"model", "core", "persons", "store"},
    "terminals": {"model", "protocol", "core", "config", "net"},
    "mqtt": {"model", "core", "config", "persons"},
    "web": {"model", "core", "config", "net", "persons", "import_export"},
    "simulator": {"protocol"},
    "doctor": {"model", "core", "config", "net", "store", "mqtt", "terminals"},
    "home_assistant_app": {"model", "config", "store", "app", "cli"},
    "cli": EVERYTHING,
}
"""What each part may import besides itself. `doctor`, `home_assistant_app` and `cli` compose other parts.

`bridge/app.py` and `bridge/servers.py` may import every part. Only `cli` and `home_assistant_app` may import
`bridge/app.py`.
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
