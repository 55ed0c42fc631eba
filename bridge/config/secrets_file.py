"""The first start's `secrets.yaml`: a random password for the terminals. `scripts/run` calls it."""

import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from bridge.config.faults import ConfigurationError
from bridge.config.load import SECRETS_FILE, load_settings
from bridge.config.settings import TerminalsSettings
from bridge.model.secret import Secret

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without characters that look alike: somebody types it on a terminal."""
_LENGTH = 18
"""Characters; 89 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecrets:
    """What was made, to be shown this once.

    Attributes:
        terminal_password: what the terminals log in with.
    """

    terminal_password: Secret


def ensure_secrets_file(configuration: Path) -> NewSecrets | None:
    """Make `secrets.yaml` beside a configuration, readable by its owner only, where there is none.

    It appears whole or not at all, and never in place of one that is there.

    Returns:
        What is in it; None where there was a file already.

    Raises:
        OSError: it cannot be made.
    """
    file = configuration.parent / SECRETS_FILE
    if os.path.lexists(file):
        return None
    password = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    text = f'# What !secret in {configuration.name} refers to. Keep it to yourself.\nterminal_password: "{password}"\n'
    draft = file.with_name(f".{SECRETS_FILE}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # A link, unlike a rename, fails where somebody else was quicker.
        file.hardlink_to(draft)
    except FileExistsError:
        return None
    finally:
        draft.unlink(missing_ok=True)
    return NewSecrets(terminal_password=Secret(password))


def main() -> int:
    """Make the file for the configuration given, and say what to enter on the terminals.

    Returns:
        The exit code.
    """
    configuration = Path(sys.argv[1])
    try:
        made = ensure_secrets_file(configuration)
    except OSError as error:
        sys.stderr.write(f"{configuration.parent / SECRETS_FILE}: cannot be made: {error.strerror}\n")
        return 1
    if made is not None:
        sys.stderr.write(_first_words(made, configuration))
    return 0


def what_to_enter(door: TerminalsSettings, made: NewSecrets, machine: str) -> str:
    """Return the lines that say what to enter on the terminals; the one text that shows the password.

    Args:
        door: where they connect to.
        made: the password that was made.
        machine: what they know this machine by.
    """
    scheme = "ws" if door.tls is None else "wss"
    return (
        "Enter on each terminal:\n"
        f"    server    {scheme}://{machine}:{door.port or 'PORT'}{door.path}/\n"
        f"    user      {door.username}\n"
        f"    password  {made.terminal_password.reveal()}\n"
    )


def _first_words(made: NewSecrets, configuration: Path) -> str:
    try:
        door = load_settings(configuration, os.environ).terminals
    except ConfigurationError:
        # Whatever is wrong is told by the bridge, which starts next; where to connect cannot be said before.
        return f"\n  {SECRETS_FILE} is made, with a random terminal_password.\n\n"
    if door.password != made.terminal_password:
        return (
            f"\n  {SECRETS_FILE} is made, with a random terminal_password that {configuration.name} does not use.\n\n"
        )
    shown = what_to_enter(door, made, "THIS-MACHINE")
    return f"\n  {SECRETS_FILE} is made. {shown}  It is shown only now; later look into {SECRETS_FILE}.\n\n"


if __name__ == "__main__":
    sys.exit(main())
