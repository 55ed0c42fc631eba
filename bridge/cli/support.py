"""What the commands of the command line share."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

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


def load(configuration: Path) -> Settings:
    """Read the configuration; one line a fault and exit code 2 where it is wrong."""
    try:
        return load_settings(configuration, os.environ)
    except ConfigurationError as error:
        for fault in error.faults:
            click.echo(str(fault), err=True)
        sys.exit(2)


def run_to_end(work: Any) -> Any:
    """Run a coroutine to its end, on uvloop where there is one (1.3 times the shortest possible bridge, not 1.6)."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        from uvloop import new_event_loop
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        sys.exit(130)
