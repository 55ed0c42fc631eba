"""What the commands share: options, checks of arguments, loading the configuration, running a coroutine."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from bridge.config.settings import Settings, StoreSettings
from bridge.model.names import ALL_TERMINALS, is_group_name, is_person_id, is_serial_number

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Result = TypeVar("_Result")
_OptionCallback = Callable[[Any, Any, Any], Any]

configuration_option: Callable[[_Command], _Command] = click.option(
    "-c",
    "--config",
    "configuration",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="FACEBRIDGE_CONFIG",
    default=Path("config.yaml"),
    show_default=True,
    show_envvar=True,
    help="The configuration file.",
)


def _name_callback(is_valid: Callable[[str], bool], rule: str) -> _OptionCallback:
    """Return a callback that checks names: the values of an option or argument, given once or several times."""

    def check(_context: Any, _parameter: Any, value: Any) -> Any:
        for one in value if isinstance(value, tuple) else [value]:
            if one is not None and not is_valid(one):
                raise click.BadParameter(f"{one[:80]!r}: {rule}")
        return value

    return check


serial_number = _name_callback(is_serial_number, "an SN has 1 to 64 letters, digits, _ and -")
person_id = _name_callback(is_person_id, "an id has 1 to 64 letters, digits and _ . @ -")
group_name = _name_callback(is_group_name, "a group has 1 to 64 letters, digits, _ and -")
group_name_or_all = _name_callback(
    lambda name: name == ALL_TERMINALS or is_group_name(name), "a group has 1 to 64 letters, digits, _ and -"
)


def program() -> str:
    """Return how a user starts this program: in a clone with its script."""
    is_clone = (Path(__file__).parents[2] / "scripts" / "run").exists()
    return "scripts/run" if is_clone else "facebridge"


def terminal_url(_context: Any, _parameter: Any, value: str) -> str:
    """Check the address that terminals connect to."""
    try:
        parts = urlsplit(value)
        has_server = parts.scheme in ("ws", "wss") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_server = False
    if not has_server:
        raise click.BadParameter(
            "must begin with ws:// or wss://, as ws://USER:PASSWORD@HOST:PORT/devs/. Write special characters of the"
            " password in percent-encoding"
        )
    return value


def load(configuration: Path) -> Settings:
    """Read the configuration; if it is invalid, print one line for each fault and exit with 2."""
    # PyYAML, voluptuous and cryptography would double the time of `facebridge --help`.
    from bridge.config.faults import ConfigurationError
    from bridge.config.load import load_settings

    try:
        return load_settings(configuration, os.environ)
    except ConfigurationError as error:
        for fault in error.faults:
            click.echo(str(fault), err=True)
        sys.exit(2)


def run_to_end(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end, on uvloop if it is installed. On Ctrl-C, exit with 130.

    With uvloop an open takes 1.3 times as long as in the fastest possible bridge, with asyncio's own loop 1.6 times.
    """
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        from uvloop import new_event_loop
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        sys.exit(130)


def run_on_store(work: Coroutine[Any, Any, _Result], settings: StoreSettings) -> _Result:
    """Run a coroutine that uses the store; show errors that the user can mend as one line, and exit with 1."""
    from bridge.model.faults import UnavailableError
    from bridge.store.errors import StoreError

    try:
        return run_to_end(work)
    except (StoreError, UnavailableError) as error:
        raise click.ClickException(settings.named(str(error))) from None


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural if needed."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
