"""`facebridge persons …`: the commands and their options; `persons_import`, `_moved` and `_shown` do the work."""

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
        "--group",
        metavar="NAME",
        callback=group_name_or_all,
        help="The persons that a group keeps, and its members; `all`: the group of every terminal.",
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
    """Show the persons of each terminal and the state of their delivery.

    With --group, show the persons that the group keeps and how far its members hold them.
    """
    _require_one_at_most(terminal=terminal, group=group)

    from bridge.cli.persons_shown import list_group, list_persons

    async def show(store: Any) -> None:
        target = await store.target(terminal, group)
        show_persons = list_persons if target.group is None else list_group
        await show_persons(store, target, delivery=delivery, as_json=as_json)

    _with_store(load(configuration), "persons list", show)


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

    The whole file is checked first. If one row has a fault, nothing is changed. With --group, the group keeps the
    persons, for terminals that join it later, and its members hold them.
    """
    _require_one(terminal=terminal, group=group)
    settings = load(configuration)

    from bridge.cli.persons_import import ImportOptions, import_persons

    options = ImportOptions(file=file, photos=photos, prune=prune, dry_run=dry_run, yes=yes)

    async def import_(store: Any) -> None:
        await import_persons(store, await store.target(terminal, group), settings, options)

    _with_store(settings, "persons import", import_, file)


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

    With --group, export the persons that the group keeps. A .zip and a .json contain the pictures. With a .csv, give
    --photos to export them.
    """
    _require_one(terminal=terminal, group=group)

    from bridge.cli.persons_moved import export

    async def export_(store: Any) -> None:
        await export(store, await store.target(terminal, group), file, photos)

    _with_store(load(configuration), "persons export", export_, file)


@persons.command("copy")
@configuration_option
@click.option(
    "--from",
    "source",
    metavar="SN",
    callback=serial_number,
    help="The terminal to copy from. It can be one that is no longer known.",
)
@click.option("--from-group", metavar="NAME", callback=group_name_or_all, help="Copy the persons that a group keeps.")
@click.option("--to", "target", metavar="SN", callback=serial_number, help="The terminal to copy to.")
@click.option(
    "--to-group",
    metavar="NAME",
    callback=group_name_or_all,
    help="Let a group keep the persons, and give them to its members.",
)
def copy_command(
    configuration: Path, source: str | None, from_group: str | None, target: str | None, to_group: str | None
) -> None:
    """Copy the persons of a terminal or a group to a terminal or a group.

    A group keeps the persons for terminals that join it later. No person is removed from the target.
    """
    if (source is None) == (from_group is None):
        raise click.UsageError("give one of --from SN and --from-group NAME")
    if (target is None) == (to_group is None):
        raise click.UsageError("give one of --to SN and --to-group NAME")

    from bridge.cli.persons_moved import copy

    async def copy_(store: Any) -> None:
        if from_group is not None:
            # Raises an error for an unknown group. A source terminal may be unknown.
            await store.target(None, from_group)
        await copy(store, sn=source, group=from_group, target=await store.target(target, to_group))

    _with_store(load(configuration), "persons copy", copy_)


@persons.command("verify")
@configuration_option
@_target_options
@_json_option
def verify_command(configuration: Path, terminal: str | None, group: str | None, as_json: bool) -> None:
    """Show the persons that a terminal has not confirmed, and terminals that have not finished joining or leaving.

    Exit code 1 if there is one. With --group, only the members of the group and changes of its members.
    """
    _require_one_at_most(terminal=terminal, group=group)

    from bridge.cli.persons_shown import verify

    async def verify_(store: Any) -> None:
        await verify(store, await store.target(terminal, group) if terminal or group else None, as_json=as_json)

    _with_store(load(configuration), "persons verify", verify_)


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
@click.option("--everywhere", is_flag=True, help="Remove the id also if no terminal and no group has this person.")
def purge_command(configuration: Path, person: str, timeout_seconds: int, everywhere: bool) -> None:
    """Remove a person from all terminals and groups, and wait for the confirmation of the terminals.

    If no terminal and no group has this person, nothing is changed. Exit code 1 if a terminal has not confirmed the
    removal in time. It stays stored, and the bridge sends it to that
    terminal as soon as it connects.
    """
    from bridge.cli.persons_moved import purge_person

    _with_store(
        load(configuration),
        "persons purge",
        lambda store: purge_person(store, person, timeout_seconds=timeout_seconds, everywhere=everywhere),
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
        run_on_store(open_and_work(), settings.store)
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
