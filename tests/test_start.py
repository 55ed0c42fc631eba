"""The start of the bridge: it imports only what it needs at once."""

import subprocess
import sys

NOT_NEEDED = {
    "PIL": "the worker processes decode pictures",
    "pillow_heif": "the worker processes decode pictures",
    "alembic": "the schema is up to date at most starts",
    "sqlalchemy.dialects.postgresql": "the engine imports its dialect",
    "psycopg": "the engine imports its driver",
}
"""Modules that take a tenth of the start or more together, and why the bridge does not import them."""

NEEDED_LATER = {
    "aiohttp": "the broker is being connected while it is imported",
    "jinja2": "the same",
    "bridge.servers": "imports these two",
}
"""Modules that take a third of the start, and why the bridge imports them later."""


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_the_bridge_imports_nothing_that_it_does_not_need_at_once() -> None:
    imported = imported_by("import bridge.cli.main, bridge.app")
    assert imported & (NOT_NEEDED.keys() | NEEDED_LATER.keys()) == set()


def test_the_servers_import_nothing_that_they_do_not_need() -> None:
    imported = imported_by("import bridge.cli.main, bridge.app, bridge.servers")
    assert imported & NOT_NEEDED.keys() == set()
