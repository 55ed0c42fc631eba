"""The command `facebridge`. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."""

import sys
from pathlib import Path

import click

from bridge import __version__
from bridge.cli.acl import acl
from bridge.cli.doctor import doctor
from bridge.cli.persons import persons
from bridge.cli.store import backup, log, restore
from bridge.cli.support import configuration_option, load, run_to_end, terminal_url
from bridge.cli.terminals import terminals


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="facebridge")
def main() -> None:
    """Connect face-recognition door terminals to MQTT, Home Assistant and Node-RED.

    Shell completion: eval "$(_FACEBRIDGE_COMPLETE=bash_source facebridge)"; zsh_source and fish_source work too.
    """


@main.command()
@configuration_option
def run(configuration: Path) -> None:
    """Run the bridge until SIGTERM or SIGINT."""
    # Before the bridge is imported: the faults of a wrong configuration appear immediately.
    settings = load(configuration)

    from bridge.app import StartError, run_bridge
    from bridge.cli.logs import announce, set_up_logging

    handler = set_up_logging(settings.logging.level, settings.logging.format)
    try:
        run_to_end(run_bridge(settings, announce=lambda line: announce(handler, line)))
    except StartError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@configuration_option
@click.option("--connect", is_flag=True, help="Also try the broker, the store and the listening ports.")
def check(configuration: Path, connect: bool) -> None:
    """Validate the configuration.

    Exit code 2 and one line for each fault if it is invalid; exit code 1 if --connect finds a fault.
    """
    settings = load(configuration)
    click.echo(f"{configuration}: the configuration is valid")
    if connect:
        from bridge.cli.check import check_surroundings

        findings = run_to_end(check_surroundings(settings))
        for finding in findings:
            click.echo(f"{'ok    ' if finding.ok else 'FAILED'}  {finding.message}", err=not finding.ok)
        if not all(finding.ok for finding in findings):
            sys.exit(1)


@main.command()
@click.option("--once", is_flag=True, help="Run one round and exit; exit code 1 if a step failed.")
def demo(once: bool) -> None:
    """Show a working system: a broker, the bridge, two simulated terminals."""
    from bridge.cli.demo import run_demo

    sys.exit(run_to_end(run_demo(once=once)))


@main.command()
@click.option(
    "--url",
    required=True,
    metavar="ws://USER:PASSWORD@HOST:PORT/devs/",
    callback=terminal_url,
    help="The address that terminals connect to.",
)
@click.option("--count", type=click.IntRange(1, 20_000), default=1, show_default=True, help="The number of terminals.")
@click.option("--sn", help="The serial number; with --count, the prefix of the serial numbers.")
@click.option(
    "--behaviour",
    type=click.Choice(["good", "slow", "silent", "refusing", "garbage", "dropping", "reporting"]),
    default="good",
    show_default=True,
    help="How the terminals behave; reporting: each sends a pass every 5 seconds, for terminals.forward_messages.",
)
def simulate(url: str, count: int, sn: str | None, behaviour: str) -> None:
    """Run simulated terminals, for trials and load tests."""
    from bridge.cli.simulate import run_simulation

    sys.exit(run_to_end(run_simulation(url, count=count, sn=sn, behaviour=behaviour)))


@main.command("hash-password")
def hash_password_command() -> None:
    """Read a password and print its hash for the configuration."""
    from bridge.net.passwords import hash_password

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.UsageError("the password is empty: enter one, or pass it on standard input")
    click.echo(hash_password(password))


for command in (terminals, persons, log, backup, restore, doctor, acl):
    main.add_command(command)
