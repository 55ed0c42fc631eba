"""`python -m bridge.home_assistant_app`: the command of the app's container, and the commands for its backups."""

import os
import signal
import sys
from pathlib import Path

# The first process of a container ignores signals without a handler, and the imports below take a second.
signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))

import click  # noqa: E402  see above

from bridge.cli.support import run_to_end  # noqa: E402
from bridge.home_assistant_app.options import Container  # noqa: E402
from bridge.home_assistant_app.supervisor import URL  # noqa: E402

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
@click.option("--data", type=_FOLDER, default=Path("/data"), help="The folder that outlives the container.")
@click.option("--own-files", type=_FOLDER, default=Path("/config"), help="The folder of the user's files.")
@click.option(
    "--terminals-port", type=click.IntRange(0, 65535), default=8765, help="The port that terminals connect to."
)
@click.option("--web-port", type=click.IntRange(0, 65535), default=8099, help="The port that the watchdog requests.")
@click.pass_context
def main(context: click.Context, data: Path, own_files: Path, terminals_port: int, web_port: int) -> None:
    """Run Facebridge as a Home Assistant app. The options are for running it elsewhere."""
    context.obj = Container(data=data, own_files=own_files, terminals_port=terminals_port, web_port=web_port)


@main.command()
@click.option("--supervisor", default=URL, help="The URL of the Supervisor.")
@click.pass_obj
def run(container: Container, supervisor: str) -> None:
    """Run the bridge with the app's options, until SIGTERM."""
    from bridge.home_assistant_app.entry import run_app

    sys.exit(run_to_end(run_app(container, supervisor, os.environ)))


@main.command()
@click.pass_obj
def backup(container: Container) -> None:
    """Write a copy of the store for Home Assistant's backup (`backup_pre`)."""
    from bridge.home_assistant_app.backup_hooks import write_backup
    from bridge.model.faults import UnavailableError
    from bridge.store.errors import StoreError

    try:
        run_to_end(write_backup(container))
    except (StoreError, UnavailableError) as error:
        raise click.ClickException(str(error)) from None


@main.command("after-backup")
@click.pass_obj
def after_backup(container: Container) -> None:
    """Delete the copy (`backup_post`)."""
    from bridge.home_assistant_app.backup_hooks import remove_backup

    remove_backup(container)


if __name__ == "__main__":
    main()
