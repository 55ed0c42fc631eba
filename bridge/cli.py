"""The command line (CONTRACT, section 2). Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from bridge import __version__
from bridge.config.faults import ConfigurationError
from bridge.config.load import load_settings
from bridge.config.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])

configuration_option: Callable[[_Command], _Command] = click.option(
    "-c",
    "--config",
    "configuration",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="FACEBRIDGE_CONFIG",
    default=Path("config.yaml"),
    show_default=True,
    show_envvar=True,
    help="The configuration.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="facebridge")
def main() -> None:
    """Connect face-recognition door terminals to MQTT, Home Assistant and Node-RED.

    Shell completion: eval "$(_FACEBRIDGE_COMPLETE=bash_source facebridge)", likewise zsh_source and fish_source.
    """


@main.command()
@configuration_option
def run(configuration: Path) -> None:
    """Run the bridge until SIGTERM or SIGINT."""
    from bridge.app import StartError, run_bridge
    from bridge.logs import announce, set_up_logging

    settings = _load(configuration)
    handler = set_up_logging(settings.logging.level, settings.logging.format)
    try:
        _run(run_bridge(settings, announce=lambda line: announce(handler, line)))
    except StartError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@configuration_option
@click.option("--connect", is_flag=True, help="Try the broker, the store and the listening ports too.")
def check(configuration: Path, connect: bool) -> None:
    """Validate the configuration.

    Exit code 2 with one line a fault, 1 where --connect finds something that does not work.
    """
    settings = _load(configuration)
    click.echo(f"{configuration}: the configuration is valid")
    if connect:
        from bridge.check import check_surroundings

        findings = _run(check_surroundings(settings))
        for finding in findings:
            click.echo(
                f"{'ok    ' if finding.fine else 'FAILED'}  {finding.what}: {finding.message}", err=not finding.fine
            )
        if not all(finding.fine for finding in findings):
            sys.exit(1)


@main.command()
@click.option("--once", is_flag=True, help="Run one round, show it and end; exit code 1 if any part failed.")
def demo(once: bool) -> None:
    """Show the whole thing working: a broker, the bridge, two simulated terminals."""
    from bridge.demo import run_demo

    sys.exit(_run(run_demo(once=once)))


@main.command()
@click.option(
    "--url", required=True, metavar="ws://USER:PASSWORD@HOST:PORT/devs/", help="The bridge's door for terminals."
)
@click.option("--count", type=click.IntRange(1, 20_000), default=1, show_default=True, help="How many terminals.")
@click.option("--sn", help="The serial number; with --count the beginning of them.")
@click.option(
    "--behaviour",
    type=click.Choice(["good", "slow", "silent", "refusing", "garbage", "dropping"]),
    default="good",
    show_default=True,
    help="How they behave.",
)
def simulate(url: str, count: int, sn: str | None, behaviour: str) -> None:
    """Run simulated terminals, for trying out and for load."""
    from bridge.simulate import run_simulation

    sys.exit(_run(run_simulation(url, count=count, sn=sn, behaviour=behaviour)))


@main.command("hash-password")
def hash_password_command() -> None:
    """Read a password and print its hash for the configuration."""
    from bridge.terminals.passwords import hash_password

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.UsageError("the password is empty")
    click.echo(hash_password(password))


def _load(configuration: Path) -> Settings:
    try:
        return load_settings(configuration, os.environ)
    except ConfigurationError as error:
        for fault in error.faults:
            click.echo(str(fault), err=True)
        sys.exit(2)


_Result = TypeVar("_Result")


def _run(work: Any) -> Any:
    """Run a coroutine to its end, on uvloop where there is one (1.3 times the shortest possible bridge, not 1.6)."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        from uvloop import new_event_loop
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        return 130
