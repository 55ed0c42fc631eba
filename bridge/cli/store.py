"""`facebridge log`, `backup` and `restore`."""

import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import orjson

from bridge.cli.support import configuration_option, load, run_to_end
from bridge.core.clock import Clock
from bridge.core.commands import COMMANDS
from bridge.model.audit import AuditRecord
from bridge.model.faults import InvalidError, UnavailableError
from bridge.model.names import is_serial_number
from bridge.model.outcome import Outcome
from bridge.persons.timestamps import LocalTimezone, parse_moment

_LOOK = 0.5
"""Seconds between two looks at what is new."""

_PAGE = 1000
"""Records that are read together."""

_AGO = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _Moment(click.ParamType[datetime]):
    """A time, or how long ago."""

    name = "TIME"

    def __init__(self, *, end_of_day: bool) -> None:
        self._end_of_day = end_of_day

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> datetime:
        """Read it."""
        if isinstance(value, datetime):
            return value
        if ago := _AGO.fullmatch(value):
            return Clock().now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            seconds = parse_moment(value, LocalTimezone(), end_of_day=self._end_of_day)
        except InvalidError:
            seconds = None
        if seconds is None:
            self.fail(
                'must be a time like "2026-11-24T08:00", a date, or how long ago, as 30m, 2h or 7d', parameter, context
            )
        return datetime.fromtimestamp(seconds, UTC)


@click.command()
@configuration_option
@click.option("--follow", "-f", is_flag=True, help="Go on with what is new, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--limit", "-n", type=click.IntRange(0, 10_000_000), default=100, show_default=True, help="The last so many."
)
@click.option("--since", type=_Moment(end_of_day=False), help="Not older: a time, a date, or 30m, 2h, 7d ago.")
@click.option("--until", type=_Moment(end_of_day=True), help="Not younger, likewise.")
@click.option("--terminal", "sns", metavar="SN", multiple=True, help="Of this terminal; may be given again.")
@click.option("--person", "person_id", metavar="ID", help="Of this person.")
@click.option(
    "--command",
    "commands",
    type=click.Choice([command.name for command in COMMANDS]),
    multiple=True,
    help="Of this command; may be given again.",
)
@click.option(
    "--outcome",
    "outcomes",
    type=click.Choice([outcome.value for outcome in Outcome]),
    multiple=True,
    help="That ended so; may be given again.",
)
@click.option("--user", help="Asked for by this user or token.")
@click.option("--request-id", help="Under this mark.")
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
    """Show the audit: who asked for what when, and how it ended.

    The youngest is at the end. Records are kept for `audit.keep_days`.
    """
    from bridge.store.audit import AuditFilter, StoredAudit
    from bridge.store.database import Database
    from bridge.store.instance_lock import is_bridge_running

    for sn in sns:
        if not is_serial_number(sn):
            raise click.BadParameter("an SN has 1 to 64 letters, digits, _ and -", param_hint="--terminal")
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
    url = load(configuration).store.url.reveal()

    async def work() -> None:
        database = await Database.open(url, may_upgrade=not await is_bridge_running(url))
        try:
            audit = StoredAudit(database)
            last_id = await audit.last_id()
            for record in await audit.latest(wanted, limit):
                _show(record, as_json=as_json)
                last_id = max(last_id, record.id)
            while follow:
                records = await audit.after(last_id, wanted, _PAGE)
                for record in records:
                    _show(record, as_json=as_json)
                    last_id = record.id
                await asyncio.sleep(_LOOK)
        finally:
            await database.close()

    _run(work())


@click.command()
@configuration_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(configuration: Path, file: Path) -> None:
    """Write the whole store into FILE, also beside a running bridge.

    FILE takes the place of an older one once it is complete. It holds names and, unless store.photo_key encrypts them,
    faces; it is readable by its owner only.
    """
    from bridge.cli.output import progress_bars
    from bridge.store.backup import back_up

    url = load(configuration).store.url.reveal()
    with progress_bars() as progress:
        rows = _run(back_up(url, file, lambda done, total: progress("copying", done, done / max(total, 1))))
    click.echo(f"{rows:,} rows written to {file}")


@click.command()
@configuration_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--yes", is_flag=True, help="Do not ask, where somebody could be asked.")
def restore(configuration: Path, file: Path, yes: bool) -> None:
    """Put the store back as `backup` wrote it into FILE; no bridge may run on it.

    Everything is sent to the terminals again, as they may hold something else by now.
    """
    from bridge.cli.output import progress_bars
    from bridge.store.backup import restore as restore_store

    url = load(configuration).store.url.reveal()
    if not yes and sys.stdin.isatty():
        click.confirm(f"All that the store holds now is replaced by {file}. Go on?", abort=True, err=True)
    with progress_bars() as progress:
        before = _run(restore_store(file, url, lambda done, total: progress("copying", done, done / max(total, 1))))
    click.echo("restored; once the bridge runs, everything is sent to the terminals again")
    click.echo(
        "note: persons who were added since the backup was made may still be on terminals:"
        " a sync with clear removes them"
    )
    if before is not None:
        click.echo(
            f"note: the store as it was is kept in {before}; it holds names and faces, so delete it when all is well"
        )


def _run(work: Any) -> Any:
    from bridge.store.errors import StoreError

    try:
        return run_to_end(work)
    except (StoreError, UnavailableError) as error:
        raise click.ClickException(str(error)) from None


def _show(record: AuditRecord, *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(record.as_json()))
        return
    at = record.at.astimezone().isoformat(sep=" ", timespec="milliseconds")
    target = record.sn or (f"group {record.group}" if record.group else "-")
    who = f"{record.user} over {record.source}" if record.user else record.source
    parts = [
        at,
        f"{record.command:<12}",
        target,
        *([f"person {record.person_id}"] if record.person_id else []),
        f"{record.outcome.value:<11}",
        *([f"status {record.status}"] if record.status else []),
        *([record.message] if record.message and record.outcome is not Outcome.OK else []),
        *([f"{record.duration_ms:.1f} ms"] if record.duration_ms is not None else []),
        f"asked by {who}",
        *([f"as {record.request_id}"] if record.request_id else []),
    ]
    click.echo("  ".join(parts))
