"""`python -m bridge.home_assistant_app`: what the app's container runs, and what Home Assistant runs in it."""

import os
import signal
import sys
from pathlib import Path

# The first process of a container ignores what it has no handler for, and what is imported below takes a second.
signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))

import click  # noqa: E402  see above

from bridge.cli.support import run_to_end  # noqa: E402
from bridge.home_assistant_app.options import Container  # noqa: E402
from bridge.home_assistant_app.supervisor import URL  # noqa: E402

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
@click.option("--data", type=_FOLDER, default=Path("/data"), help="What outlives the container.")
@click.option("--own-files", type=_FOLDER, default=Path("/config"), help="The user's files for this app.")
@click.option("--terminals-port", type=click.IntRange(0, 65535), default=8765, help="Where terminals connect to.")
@click.option("--web-port", type=click.IntRange(0, 65535), default=8099, help="Where the watchdog looks.")
@click.pass_context
def main(context: click.Context, data: Path, own_files: Path, terminals_port: int, web_port: int) -> None:
    """Run Facebridge as a Home Assistant app; the options are for trying it out elsewhere."""
    context.obj = Container(data=data, own_files=own_files, terminals_port=terminals_port, web_port=web_port)


@main.command()
@click.option("--supervisor", default=URL, help="Where the Supervisor is.")
@click.pass_obj
def run(container: Container, supervisor: str) -> None:
    """Run the bridge on the app's options, until SIGTERM."""
    from bridge.home_assistant_app.entry import run_app

    sys.exit(run_to_end(run_app(container, supervisor, os.environ)))


@main.command()
@click.pass_obj
def backup(container: Container) -> None:
    """Write the store where Home Assistant's backup takes it (`backup_pre`)."""
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
    """Delete it again (`backup_post`)."""
    from bridge.home_assistant_app.backup_hooks import remove_backup

    remove_backup(container)


if __name__ == "__main__":
    main()
