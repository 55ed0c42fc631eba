"""`facebridge doctor`."""

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import orjson

from bridge import __version__
from bridge.cli.support import configuration_option, run_to_end
from bridge.core.clock import Clock
from bridge.doctor.findings import Finding, Level, findings_as_json, make_finding, worst_level

_LABELS = {
    Level.OK: ("ok     ", "green"),
    Level.HINT: ("hint   ", "cyan"),
    Level.WARNING: ("warning", "yellow"),
    Level.WRONG: ("WRONG  ", "bold red"),
}


@click.command()
@configuration_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option(
    "--listen",
    "listen_seconds",
    type=click.FloatRange(1, 3600),
    default=6,
    show_default=True,
    metavar="SECONDS",
    help="How long to watch terminals connect and disconnect.",
)
def doctor(configuration: Path, as_json: bool, listen_seconds: float) -> None:
    """Check everything around the bridge; report problems and remedies.

    Works with and without a running bridge, and does not disturb it. Exit code 1 if something is wrong, 2 if the
    configuration is invalid; hints and warnings alone give 0.
    """
    from bridge.config.faults import ConfigurationError
    from bridge.config.load import load_settings
    from bridge.doctor.checks import DoctorRun
    from bridge.doctor.probe import BrokerAccess

    clock = Clock()
    try:
        settings = load_settings(configuration, os.environ)
    except ConfigurationError as error:
        if as_json:
            _print_json(
                [make_finding("configuration_invalid", str(fault), "correct it") for fault in error.faults], clock
            )
        for fault in error.faults:
            click.echo(str(fault), err=True)
        sys.exit(2)
    access = BrokerAccess.of(settings.mqtt, secrets.token_hex(4), clock)
    if not as_json:
        # Silence for many seconds looks like a hang. Standard error, so that the output can be piped.
        click.echo(f"checking; listening at the broker takes about {listen_seconds + 3:.0f} s …", err=True)
    findings = run_to_end(DoctorRun(settings, configuration, access, listen_seconds).run())
    if as_json:
        _print_json(findings, clock)
    else:
        _print(findings)
    sys.exit(1 if worst_level(findings) is Level.WRONG else 0)


def _print_json(findings: Sequence[Finding], clock: Clock) -> None:
    click.echo(orjson.dumps(findings_as_json(findings, __version__, clock.now()), option=orjson.OPT_INDENT_2))


def _print(findings: Sequence[Finding]) -> None:
    from rich.text import Text

    from bridge.cli.output import output

    console = output()
    area = None
    for finding in findings:
        if finding.area is not area:
            area = finding.area
            console.print(Text(area.value, style="bold"))
        label, style = _LABELS[finding.level]
        console.print(Text.assemble("  ", (label, style), f"  {finding.what}"))
        if finding.to_do:
            console.print(Text(f"           → {finding.to_do}  [{finding.code}]"))
    counts = {level: sum(one.level is level for one in findings) for level in reversed(Level)}
    shown = ", ".join(f"{number} {_counted(level, number)}" for level, number in counts.items() if number)
    console.print(Text(shown, style=_LABELS[worst_level(findings)][1]))


def _counted(level: Level, number: int) -> str:
    plural = "s" if number > 1 and level in (Level.HINT, Level.WARNING) else ""
    return f"{level.name.lower()}{plural}"
