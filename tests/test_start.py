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


def test_the_bridge_imports_nothing_that_it_does_not_need_at_once() -> None:
    code = "import sys, bridge.cli.main, bridge.app; print('\\n'.join(sys.modules))"
    imported = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert NOT_NEEDED.keys() & set(imported.split()) == set()
