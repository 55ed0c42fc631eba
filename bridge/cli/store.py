"""`facebridge log`, `backup` and `restore`: the audit, and copies of the whole store."""

import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from bridge.cli.support import configuration_option, counted, load, run_on_store, serial_number
from bridge.core.clock import Clock
from bridge.core.commands import COMMANDS
from bridge.model.audit import AuditRecord
from bridge.model.faults import InvalidError
from bridge.model.reply import Outcome
from bridge.persons.timestamps import LocalTimezone, parse_timestamp

if TYPE_CHECKING:
    from bridge.model.audit import AuditFilter

_POLL_SECONDS = 0.5
"""Time between two queries for new records."""

_PAGE_ROWS = 1000
"""Records that one query reads."""

_AGO = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _Time(click.ParamType[datetime]):
    """A time, a date, or a duration before now."""

    name = "TIME"

    def __init__(self, *, end_of_day: bool) -> None:
        self._end_of_day = end_of_day

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> datetime:
        """Return the time that the text means; a date means the start or the end of that day."""
        if isinstance(value, datetime):
            return value
        if ago := _AGO.fullmatch(value):
            return Clock().now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            seconds = parse_timestamp(value, LocalTimezone(), end_of_day=self._end_of_day)
        except InvalidError:
            seconds = None
        if seconds is None:
            self.fail(
                f'{value[:80]!r}: must be a time like "2026-11-24T08:00", a date, or a time ago like 30m, 2h or 7d',
                parameter,
                context,
            )
        return datetime.fromtimestamp(seconds, UTC)


@click.command()
@configuration_option
@click.option("--follow", "-f", is_flag=True, help="Continue with new records until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each record.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(0, 10_000_000),
    default=100,
    show_default=True,
    help="Show at most the last N records.",
    metavar="N",
)
@click.option("--since", type=_Time(end_of_day=False), help="Only records after this: a time, a date, or 30m, 2h, 7d.")
@click.option("--until", type=_Time(end_of_day=True), help="Only records before this, in the same forms.")
@click.option(
    "--terminal",
    "sns",
    metavar="SN",
    multiple=True,
    callback=serial_number,
    help="Only this terminal. Repeat the option for several.",
)
@click.option("--person", "person_id", metavar="ID", help="Only this person.")
@click.option(
    "--command",
    "commands",
    type=click.Choice([command.name for command in COMMANDS]),
    multiple=True,
    help="Only this command. Repeat the option for several.",
)
@click.option(
    "--outcome",
    "outcomes",
    type=click.Choice([outcome.value for outcome in Outcome]),
    multiple=True,
    help="Only this outcome. Repeat the option for several.",
)
@click.option("--user", help="Only requests of this user or token.")
@click.option("--request-id", help="Only this request_id.")
def log(
    configuration: Path,
    follow: bool,
    as_json: bool,
    limit: int,
    since: datetime | None,
    until: datetime | None,
    sns: Sequence[str],
    person_id: str | None,
    commands: Sequence[str],
    outcomes: Sequence[str],
    user: str | None,
    request_id: str | None,
) -> None:
    """Show the audit: each request, who made it, when, and its outcome.

    The newest record is the last line. The store keeps records for `audit.keep_days`.
    """
    from bridge.model.audit import AuditFilter

    wanted = AuditFilter(
        since=since,
        until=until,
        sns=sns,
        person_id=person_id,
        commands=commands,
        outcomes=[Outcome(one) for one in outcomes],
        user=user,
        request_id=request_id,
    )
    settings = load(configuration).store
    run_on_store(_show_log(settings.url.reveal(), wanted, limit, follow=follow, as_json=as_json), settings)


async def _show_log(url: str, wanted: "AuditFilter", limit: int, *, follow: bool, as_json: bool) -> None:
    from bridge.store.audit import StoredAudit
    from bridge.store.database import Database
    from bridge.store.instance_lock import is_bridge_running

    database = await Database.open(url, may_upgrade=not await is_bridge_running(url))
    try:
        audit = StoredAudit(database)
        last_id = await audit.last_id()
        for record in await audit.latest(wanted, limit):
            _show(record, as_json=as_json)
            last_id = max(last_id, record.id)
        while follow:
            records = await audit.after(last_id, wanted, _PAGE_ROWS)
            for record in records:
                _show(record, as_json=as_json)
                last_id = record.id
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        await database.close()


@click.command()
@configuration_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(configuration: Path, file: Path) -> None:
    """Write a copy of the whole store into FILE. A bridge may be running.

    An older FILE is replaced when the new copy is complete. FILE contains names and, unless store.photo_key encrypts
    them, photos; only its owner can read it.
    """
    from bridge.cli.output import progress_bars
    from bridge.store.backup import back_up

    settings = load(configuration).store
    with progress_bars() as progress:
        copying = back_up(
            settings.url.reveal(), file, lambda done, total: progress("copying", done, done / max(total, 1))
        )
        rows = run_on_store(copying, settings)
    click.echo(f"{rows:,} rows written to {file}")


@click.command()
@configuration_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def restore(configuration: Path, file: Path, yes: bool) -> None:
    """Replace the store by the copy that `backup` wrote into FILE. Stop the bridge first.

    It first lists the persons that were removed or disabled since the backup, because they come back.
    Afterwards the bridge sends all persons to the terminals again, because the terminals may have changed since.
    """
    from bridge.cli.output import progress_bars
    from bridge.store.backup import persons_brought_back
    from bridge.store.backup import restore as restore_store

    settings = load(configuration).store
    url = settings.url.reveal()
    brought_back = run_on_store(persons_brought_back(file, url), settings)
    if brought_back.number:
        removed = counted(brought_back.number, "person")
        click.echo(
            f"removed or disabled since {file} was written, and then sent to their terminals and kept by their groups "
            f"again: {removed}"
        )
        for place, person_id in brought_back.first:
            click.echo(f"  {person_id} {'in' if ' ' in place else 'on'} {place}")
        if brought_back.number > len(brought_back.first):
            click.echo(f"  and {brought_back.number - len(brought_back.first):,} more")
        if not yes and not sys.stdin.isatty():
            raise click.ClickException("nothing was changed. If these persons may come back, give --yes")
    if not yes and sys.stdin.isatty():
        click.confirm(f"The content of the store will be replaced by {file}. Continue?", abort=True, err=True)
    with progress_bars() as progress:
        before = run_on_store(
            restore_store(file, url, lambda done, total: progress("copying", done, done / max(total, 1))), settings
        )
    click.echo("restored; when the bridge runs, it sends all persons to the terminals again")
    click.echo(
        "note: persons who were added after the backup may still be on terminals;"
        " a `sync` command with `clear` removes them"
    )
    if before is not None:
        click.echo(f"note: the previous store is kept in {before}; it contains names and photos, so delete it later")


def _show(record: AuditRecord, *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(record.as_json()))
        return
    at = record.at.astimezone().isoformat(sep=" ", timespec="milliseconds")
    target = record.sn or (f"group {record.group}" if record.group else "-")
    requester = f"{record.user} over {record.source}" if record.user else record.source
    parts = [
        at,
        f"{record.command:<12}",
        target,
        *([f"person {record.person_id}"] if record.person_id else []),
        f"{record.outcome.value:<11}",
        *([f"status {record.status}"] if record.status else []),
        *([record.message] if record.message and record.outcome is not Outcome.OK else []),
        *([f"{record.duration_ms:.1f} ms"] if record.duration_ms is not None else []),
        f"by {requester}",
        *([f"request_id {record.request_id}"] if record.request_id else []),
    ]
    click.echo("  ".join(parts))
