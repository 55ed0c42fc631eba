"""`facebridge persons …`: the roster from files, and what is to be seen and done beside a running bridge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bridge.cli.support import configuration_option, load, run_to_end
from bridge.config.settings import Settings
from bridge.model.names import is_group_name, is_person_id, is_serial_number
from bridge.model.person_entry import DeliveryState

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _checked(is_right: Callable[[str], bool], rule: str) -> Callable[[Any, Any, str | None], str | None]:
    def check(_context: Any, _parameter: Any, value: str | None) -> str | None:
        if value is not None and not is_right(value):
            raise click.BadParameter(rule)
        return value

    return check


_SERIAL_NUMBER = _checked(is_serial_number, "an SN has 1 to 64 letters, digits, _ and -")
_GROUP = _checked(lambda name: name == "all" or is_group_name(name), "a group has 1 to 64 letters, digits, _ and -")
_PERSON_ID = _checked(is_person_id, "an id has 1 to 64 letters, digits and _ . @ -")


def _target_options(command: _Command) -> _Command:
    terminal = click.option("--terminal", metavar="SN", callback=_SERIAL_NUMBER, help="One terminal.")
    group = click.option("--group", metavar="NAME", callback=_GROUP, help="Every terminal of a group; all: of all.")
    return terminal(group(command))


@click.group()
def persons() -> None:
    """List, import, export, copy, verify and purge persons."""


@persons.command("list")
@configuration_option
@_target_options
@click.option("--delivery", type=click.Choice([one.value for one in DeliveryState]), help="Only those that are so far.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_command(
    configuration: Path, terminal: str | None, group: str | None, delivery: str | None, as_json: bool
) -> None:
    """Show whom terminals should hold, and how far each is."""
    _one_target_at_most(terminal, group)

    from bridge.cli import persons_work

    _beside(
        load(configuration),
        "persons list",
        lambda store: persons_work.list_persons(
            store, terminal=terminal, group=group, delivery=delivery, as_json=as_json
        ),
    )


@persons.command("import")
@configuration_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_target_options
@click.option(
    "--photos",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A folder of pictures named by id, as 1001.jpg.",
)
@click.option("--prune", is_flag=True, help="Remove those that are not in the file.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before more than a tenth is removed.")
def import_command(
    configuration: Path,
    file: Path,
    terminal: str | None,
    group: str | None,
    photos: Path | None,
    prune: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Import persons from a .csv, a .json or a .zip of a CSV and pictures.

    Everything is checked first: where one row is wrong, nothing is changed. Then what differs is changed.
    """
    _one_target(terminal, group)
    settings = load(configuration)

    from bridge.cli import persons_work

    _beside(
        settings,
        "persons import",
        lambda store: persons_work.import_persons(
            store, settings, file, terminal=terminal, group=group, photos=photos, prune=prune, dry_run=dry_run, yes=yes
        ),
    )


@persons.command("export")
@configuration_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_target_options
@click.option(
    "--photos", type=click.Path(path_type=Path, file_okay=False), help="Write the pictures into this folder, by id."
)
def export_command(
    configuration: Path, file: Path, terminal: str | None, group: str | None, photos: Path | None
) -> None:
    """Export persons into a .csv, a .json or a .zip, as `import` reads them.

    A .zip and a .json hold the pictures; a .csv does with --photos.
    """
    _one_target(terminal, group)

    from bridge.cli import persons_work

    _beside(
        load(configuration),
        "persons export",
        lambda store: persons_work.export(store, file, terminal=terminal, group=group, photos=photos),
    )


@persons.command("copy")
@configuration_option
@click.option(
    "--from", "source", metavar="SN", callback=_SERIAL_NUMBER, help="Whose persons; it need not be known any more."
)
@click.option("--from-group", metavar="NAME", callback=_GROUP, help="Every terminal of a group: for one that joins it.")
@click.option("--to", "target", metavar="SN", required=True, callback=_SERIAL_NUMBER, help="Who is to hold them.")
def copy_command(configuration: Path, source: str | None, from_group: str | None, target: str) -> None:
    """Let a terminal hold the persons of another one, or of a group.

    For an exchanged device, or one that joins a group. Nobody is removed from it.
    """
    if (source is None) == (from_group is None):
        raise click.UsageError("give one of --from SN and --from-group NAME")

    from bridge.cli import persons_work

    _beside(
        load(configuration),
        "persons copy",
        lambda store: persons_work.copy(store, source=source, from_group=from_group, target=target),
    )


@persons.command("verify")
@configuration_option
@_target_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def verify_command(configuration: Path, terminal: str | None, group: str | None, as_json: bool) -> None:
    """Show where terminals have not confirmed what they should hold.

    Exit code 1 where there is such a one.
    """
    _one_target_at_most(terminal, group)

    from bridge.cli import persons_work

    _beside(
        load(configuration),
        "persons verify",
        lambda store: persons_work.verify(store, terminal=terminal, group=group, as_json=as_json),
    )


@persons.command("purge")
@configuration_option
@click.argument("person_id", metavar="ID", callback=_PERSON_ID)
@click.option(
    "--timeout",
    type=click.IntRange(0, 86_400),
    default=60,
    show_default=True,
    help="Seconds to wait for the terminals to confirm it.",
)
def purge_command(configuration: Path, person_id: str, timeout: int) -> None:
    """Remove a person everywhere, and show when every terminal has confirmed it.

    Exit code 1 where one has not; the removal stays stored, and reaches it once it is there.
    """
    from bridge.cli import persons_work

    _beside(
        load(configuration),
        "persons purge",
        lambda store: persons_work.purge_person(store, person_id, patience=timeout),
    )


def _beside(settings: Settings, command: str, work: Callable[[Any], Any]) -> None:
    """Open the store, do the work, and turn errors into what the user reads."""
    from bridge.cli.store_session import UnknownTargetError, open_store
    from bridge.import_export.errors import PersonFileError
    from bridge.model.faults import UnavailableError
    from bridge.store.errors import StoreError

    async def open_and_work() -> None:
        async with open_store(settings, command) as store:
            await work(store)

    try:
        run_to_end(open_and_work())
    except (StoreError, UnavailableError, UnknownTargetError, PersonFileError) as error:
        raise click.ClickException(str(error)) from None
    except BrokenPipeError:
        # Whoever read it has seen enough; click ends quietly.
        raise
    except OSError as error:
        raise click.ClickException(f"{error.strerror}: {error.filename or 'on writing'}") from None


def _one_target(terminal: str | None, group: str | None) -> None:
    if (terminal is None) == (group is None):
        raise click.UsageError("give one of --terminal SN and --group NAME")


def _one_target_at_most(terminal: str | None, group: str | None) -> None:
    if terminal is not None and group is not None:
        raise click.UsageError("give only one of --terminal SN and --group NAME")
