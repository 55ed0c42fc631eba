"""`facebridge persons …`: the commands and their options; `persons_import` and `persons_stored` do the work."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bridge.cli.support import (
    configuration_option,
    group_name_or_all,
    load,
    person_id,
    run_on_store,
    serial_number,
)
from bridge.config.settings import Settings
from bridge.model.person_entry import DeliveryState

_Command = TypeVar("_Command", bound=Callable[..., Any])

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each person.")


def _target_options(command: _Command) -> _Command:
    terminal = click.option("--terminal", metavar="SN", callback=serial_number, help="One terminal.")
    group = click.option(
        "--group", metavar="NAME", callback=group_name_or_all, help="The terminals of a group; `all`: every terminal."
    )
    return terminal(group(command))


@click.group()
def persons() -> None:
    """List, import, export, copy, verify and purge persons."""


@persons.command("list")
@configuration_option
@_target_options
@click.option(
    "--delivery", type=click.Choice([one.value for one in DeliveryState]), help="Only persons in this delivery state."
)
@_json_option
def list_command(
    configuration: Path, terminal: str | None, group: str | None, delivery: str | None, as_json: bool
) -> None:
    """Show the persons of each terminal and the state of their delivery."""
    _require_one_at_most(terminal=terminal, group=group)

    from bridge.cli.persons_stored import list_persons

    _with_store(
        load(configuration),
        "persons list",
        lambda store: list_persons(store, terminal=terminal, group=group, delivery=delivery, as_json=as_json),
    )


@persons.command("import")
@configuration_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_target_options
@click.option(
    "--photos",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A folder of pictures, named by id: 1001.jpg.",
)
@click.option("--prune", is_flag=True, help="Remove persons that are not in the file.")
@click.option("--dry-run", is_flag=True, help="Show the differences and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation before more than a tenth is removed.")
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

    The whole file is checked first. If one row has a fault, nothing is changed.
    """
    _require_one(terminal=terminal, group=group)
    settings = load(configuration)

    from bridge.cli.persons_import import ImportOptions, import_persons

    options = ImportOptions(file=file, photos=photos, prune=prune, dry_run=dry_run, yes=yes)
    _with_store(
        settings,
        "persons import",
        lambda store: import_persons(store, store.targets(terminal, group), settings, options),
        file,
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
    """Export persons into a .csv, a .json or a .zip that `import` can read.

    A .zip and a .json contain the pictures. With a .csv, give --photos to export them.
    """
    _require_one(terminal=terminal, group=group)

    from bridge.cli.persons_stored import export

    _with_store(
        load(configuration),
        "persons export",
        lambda store: export(store, store.targets(terminal, group), file, photos),
        file,
    )


@persons.command("copy")
@configuration_option
@click.option(
    "--from",
    "source",
    metavar="SN",
    callback=serial_number,
    help="The terminal to copy from. It can be one that is no longer known.",
)
@click.option("--from-group", metavar="NAME", callback=group_name_or_all, help="Copy from the terminals of a group.")
@click.option("--to", "target", metavar="SN", required=True, callback=serial_number, help="The terminal to copy to.")
def copy_command(configuration: Path, source: str | None, from_group: str | None, target: str) -> None:
    """Copy the persons of a terminal or a group to another terminal.

    Use it when a device is replaced or joins a group. No person is removed from the target.
    """
    if (source is None) == (from_group is None):
        raise click.UsageError("give one of --from SN and --from-group NAME")

    from bridge.cli.persons_stored import copy

    _with_store(
        load(configuration),
        "persons copy",
        lambda store: copy(store, source=source, from_group=from_group, target=target),
    )


@persons.command("verify")
@configuration_option
@_target_options
@_json_option
def verify_command(configuration: Path, terminal: str | None, group: str | None, as_json: bool) -> None:
    """Show the persons that a terminal has not confirmed.

    Exit code 1 if there is one.
    """
    _require_one_at_most(terminal=terminal, group=group)

    from bridge.cli.persons_stored import verify

    _with_store(
        load(configuration),
        "persons verify",
        lambda store: verify(store, store.targets(terminal, group) if terminal or group else None, as_json=as_json),
    )


@persons.command("purge")
@configuration_option
@click.argument("person", metavar="ID", callback=person_id)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.IntRange(0, 86_400),
    default=60,
    show_default=True,
    help="Seconds to wait until the terminals confirm the removal.",
)
def purge_command(configuration: Path, person: str, timeout_seconds: int) -> None:
    """Remove a person from all terminals and wait for their confirmation.

    Exit code 1 if a terminal has not confirmed it in time. The removal stays stored, and the bridge sends it to that
    terminal as soon as it connects.
    """
    from bridge.cli.persons_stored import purge_person

    _with_store(
        load(configuration), "persons purge", lambda store: purge_person(store, person, timeout_seconds=timeout_seconds)
    )


def _with_store(
    settings: Settings, command: str, work: Callable[[Any], Awaitable[None]], file: Path | None = None
) -> None:
    """Open the store, run `work` on it, and show errors that the user can mend as one line.

    Args:
        settings: the configuration.
        command: the command that the audit names as the source of changes.
        work: receives the `OpenStore`.
        file: the file of persons that `work` reads or writes.
    """
    from bridge.cli.store_session import UnknownTargetError, open_store
    from bridge.import_export.rows import PersonFileError

    async def open_and_work() -> None:
        async with open_store(settings, command) as store:
            await work(store)

    try:
        run_on_store(open_and_work())
    except UnknownTargetError as error:
        raise click.ClickException(str(error)) from None
    except PersonFileError as error:
        raise click.ClickException(f"{file}: {error}") from None
    except BrokenPipeError:
        # The reader of the output has closed it, for example `head`: click exits without a message.
        raise
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'the output cannot be written'}: {error.strerror}") from None


def _require_one(*, terminal: str | None, group: str | None) -> None:
    if (terminal is None) == (group is None):
        raise click.UsageError("give one of --terminal SN and --group NAME")


def _require_one_at_most(*, terminal: str | None, group: str | None) -> None:
    if terminal is not None and group is not None:
        raise click.UsageError("give only one of --terminal SN and --group NAME")
