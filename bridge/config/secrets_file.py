"""The first start's `secrets.yaml`: a random password for the terminals. `scripts/run` calls it."""

import os
import secrets
import sys
from pathlib import Path

from bridge.config.load import SECRETS_FILE

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without characters that look alike: somebody types it on a terminal."""
_LENGTH = 18
"""Characters; 89 bits."""


def ensure_secrets_file(configuration: Path) -> str | None:
    """Make `secrets.yaml` beside a configuration, readable by its owner only, where there is none.

    Returns:
        The terminals' password, to be shown this once; None where there was a file already.
    """
    password = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    try:
        descriptor = os.open(configuration.parent / SECRETS_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return None
    with os.fdopen(descriptor, "w") as file:
        file.write(f'# What !secret in config.yaml refers to. Keep it to yourself.\nterminal_password: "{password}"\n')
    return password


def main() -> None:
    """Make the file for the configuration given, and say what to enter on the terminals."""
    password = ensure_secrets_file(Path(sys.argv[1]))
    if password is not None:
        sys.stderr.write(
            f"\n  {SECRETS_FILE} is made. Enter on each terminal:\n"
            f"    server    ws://THIS-MACHINE:8765/devs/\n"
            f"    user      dev\n"
            f"    password  {password}\n"
            f"  It is shown only now; later look into {SECRETS_FILE}.\n\n"
        )


if __name__ == "__main__":
    main()
