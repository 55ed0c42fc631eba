"""`facebridge terminals …`: the commands and their options; `terminal_commands` does the work."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from bridge.cli.support import configuration_option, group_name, load, run_on_store, serial_number
from bridge.config.settings import Settings

_sn_argument = click.argument("sn", metavar="SN", callback=serial_number)


def _group_names(context: Any, parameter: Any, values: tuple[str, ...]) -> tuple[str, ...]:
    """Check group names; one empty value stands for no group."""
    return () if values == ("",) else group_name(context, parameter, values)


@click.group()
def terminals() -> None:
    """List terminals, and approve or forget them."""


@terminals.command("list")
@configuration_option
@click.option("--pending", is_flag=True, help="Only terminals that wait for approval.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each terminal.")
def list_command(configuration: Path, pending: bool, as_json: bool) -> None:
    """Show the known terminals, and those that wait for approval.

    Only a running bridge knows which terminals are connected and which ones wait.
    """
    settings = load(configuration)

    from bridge.cli.terminal_commands import list_terminals

    _with_store(settings, "terminals list", lambda store: list_terminals(store, only_pending=pending, as_json=as_json))


@terminals.command("approve")
@configuration_option
@_sn_argument
@click.option("--name", help="Its display name; an empty value removes it.")
@click.option("--area", help="Its area, for Home Assistant; an empty value removes it.")
@click.option(
    "--group", "groups", metavar="NAME", multiple=True, callback=_group_names,
    help="A group that it belongs to. Repeat the option for several; an empty value removes it from all.",
)  # fmt: skip
@click.option("--key", "with_key", is_flag=True, help="Ask for the terminal's key, or read it from standard input.")
@click.option("--username", help="Its own user name, with --password; an empty value removes both.")
@click.option("--password", "with_password", is_flag=True, help="Ask for its own password, or read it likewise.")
@click.pass_context
def approve_command(
    context: click.Context,
    configuration: Path,
    sn: str,
    name: str | None,
    area: str | None,
    groups: tuple[str, ...],
    with_key: bool,
    username: str | None,
    with_password: bool,
) -> None:
    """Approve a terminal, or change an approved one.

    A terminal can be approved before it connects. Options that are not given stay as they are. The key and the
    password are never given on the command line, where other users could see them: they are asked for, or read from
    standard input, one a line, the key first.
    """
    payload: dict[str, Any] = {"sn": sn}
    payload |= {key: value or None for key, value in (("name", name), ("area", area)) if value is not None}
    if context.get_parameter_source("groups") is not click.core.ParameterSource.DEFAULT:
        payload["groups"] = list(groups)
    if username == "":
        if with_password:
            raise click.UsageError("--password needs a --username")
        payload |= {"username": None, "password": None}
    elif username is not None:
        payload["username"] = username
    settings = load(configuration)
    if with_key:
        payload["key"] = _secret("Key")
    if with_password:
        payload["password"] = _secret("Password")

    from bridge.cli.terminal_commands import approve

    _with_store(settings, "terminals approve", lambda store: approve(store, settings, payload))


@terminals.command("forget")
@configuration_option
@_sn_argument
def forget_command(configuration: Path, sn: str) -> None:
    """Forget a terminal: close its connection, drop its persons, and clear its topics and entities.

    A terminal that is listed in the configuration is removed there.
    """
    settings = load(configuration)

    from bridge.cli.terminal_commands import forget

    _with_store(settings, "terminals forget", lambda store: forget(store, settings, sn))


def _secret(name: str) -> str:
    """Ask for a secret, or read a line of standard input."""
    if sys.stdin.isatty():
        secret: str = click.prompt(name, hide_input=True, confirmation_prompt=True, err=True)
    else:
        secret = sys.stdin.readline().rstrip("\r\n")
    if not secret:
        raise click.UsageError(f"the {name.lower()} is empty: enter one, or pass it on standard input")
    return secret


def _with_store(settings: Settings, command: str, work: Callable[[Any], Awaitable[None]]) -> None:
    from bridge.cli.store_session import open_store

    async def open_and_work() -> None:
        async with open_store(settings, command) as store:
            await work(store)

    run_on_store(open_and_work(), settings.store)
