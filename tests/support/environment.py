"""The environment of the programs that tests start."""

import os

_TEST_VARIABLES = frozenset(("FACEBRIDGE_SEED", "FACEBRIDGE_SOAK_SECONDS"))
"""Variables that the tests read. Facebridge would take them for configuration keys that it does not know."""


def program_environment() -> dict[str, str]:
    """Return this process's environment without the variables that only tests read."""
    return {name: value for name, value in os.environ.items() if name not in _TEST_VARIABLES}
