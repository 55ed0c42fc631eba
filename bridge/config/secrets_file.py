"""Creates `secrets.yaml` at the first start, with a random password for the terminals. `scripts/run` calls it."""

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
"""No characters that look alike, because people type the password on a terminal."""

_PASSWORD_CHARACTERS = 18
"""Length of the password: 89 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecrets:
    """The secrets that were created, to be shown once.

    Attributes:
        terminal_password: the password that terminals log in with.
    """

    terminal_password: Secret


def ensure_secrets_file(configuration: Path) -> NewSecrets | None:
    """Create `secrets.yaml` beside a configuration if there is none, readable only by its owner.

    The file appears with its whole content or not at all, and never replaces an existing one.

    Returns:
        Its secrets; None if the file existed already.

    Raises:
        OSError: it cannot be created.
    """
    file = configuration.parent / SECRETS_FILE
    if os.path.lexists(file):
        return None
    password = "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_CHARACTERS))
    text = (
        f'# The values for !secret in {configuration.name}. Keep this file secret.\nterminal_password: "{password}"\n'
    )
    draft = file.with_name(f".{SECRETS_FILE}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # A hard link, unlike a rename, fails if another process has created the file meanwhile.
        file.hardlink_to(draft)
    except FileExistsError:
        return None
    finally:
        draft.unlink(missing_ok=True)
    return NewSecrets(terminal_password=Secret(password))


def main() -> int:
    """Create the file for the configuration in the first argument, and print what to enter on the terminals.

    Returns:
        The exit code.
    """
    configuration = Path(sys.argv[1])
    try:
        made = ensure_secrets_file(configuration)
    except OSError as error:
        sys.stderr.write(f"{configuration.parent / SECRETS_FILE}: cannot be created: {error.strerror}\n")
        return 1
    if made is not None:
        sys.stderr.write(_notice(made, configuration))
    return 0


def what_to_enter(terminals: TerminalsSettings, made: NewSecrets, machine: str) -> str:
    """Return the lines that say what to enter on each terminal. No other text shows the password.

    Args:
        terminals: the settings of the server that terminals connect to.
        made: the secrets that were created.
        machine: the name or address of this machine for the terminals.
    """
    scheme = "ws" if terminals.tls is None else "wss"
    return (
        "Enter on each terminal:\n"
        f"    server    {scheme}://{machine}:{terminals.port or 'PORT'}{terminals.path}/\n"
        f"    user      {terminals.username}\n"
        f"    password  {made.terminal_password.reveal()}\n"
    )


def _notice(made: NewSecrets, configuration: Path) -> str:
    created = f"{SECRETS_FILE} was created with a random terminal_password"
    try:
        terminals = load_settings(configuration, os.environ).terminals
    except ConfigurationError:
        # The bridge starts next and shows the faults. Until they are mended, the server's address is unknown.
        return f"\n  {created}.\n\n"
    if terminals.password != made.terminal_password:
        return f"\n  {created}, but {configuration.name} does not use it.\n\n"
    shown = what_to_enter(terminals, made, "THIS-MACHINE")
    return f"\n  {created}. {shown}  The password is shown only now; you find it in {SECRETS_FILE}.\n\n"


if __name__ == "__main__":
    sys.exit(main())
