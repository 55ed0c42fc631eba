"""The work of `facebridge terminals list`, `approve` and `forget`, beside a running bridge or without one."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from random import SystemRandom
from typing import Any, NoReturn
from uuid import uuid4

import click

from bridge.cli.output import LongTable, echo_json, shown_time
from bridge.cli.store_session import OpenStore
from bridge.cli.support import program
from bridge.config.settings import Settings
from bridge.control.channel import NoBridgeReachedError, request
from bridge.core.admission import Admission, AdmissionServices
from bridge.core.commands import ADMIT, FORGET
from bridge.core.registry import TerminalRegistry
from bridge.model.commands import Admit, Forget
from bridge.model.faults import InvalidError, UnavailableError
from bridge.model.secret import Secret
from bridge.net.passwords import PasswordVerifier
from bridge.persons.preparation import PhotoPreparer
from bridge.persons.service import PersonOptions, PersonService
from bridge.persons.timestamps import LocalTimezone
from bridge.store.instance_lock import instance_lock
from bridge.store.mqtt_client import read_client_suffix
from bridge.store.terminals import StoredTerminals

_NO_BRIDGE = "no bridge is running on this store"


async def list_terminals(store: OpenStore, *, only_pending: bool, as_json: bool) -> None:
    """Show the known terminals and those that wait for approval, the waiting ones first."""
    rows = await _rows(store)
    if only_pending:
        rows = [row for row in rows if row["state"] == "pending"]
    if as_json:
        for row in rows:
            echo_json(row)
        return
    if not store.bridge_running:
        click.echo(f"{_NO_BRIDGE}: it alone knows which terminals are connected and which ones wait", err=True)
    if not rows:
        click.echo("no terminal waits for approval" if only_pending else "no terminal is known, and none waits")
        return
    shown = LongTable("terminal", "name", "state", "address", "since", "area", "groups")
    for row in rows:
        since = "" if row["since"] is None else shown_time(datetime.fromisoformat(row["since"]))
        cells = (row["name"], row["state"], row["address"], since, row["area"], ", ".join(row["groups"]))
        shown.add_row(row["sn"], *(cell or "" for cell in cells))
    shown.end()
    waiting = [row["sn"] for row in rows if row["state"] == "pending"]
    if waiting:
        click.echo(f"\napprove a waiting terminal with `{program()} terminals approve {waiting[0]}`")


async def approve(store: OpenStore, settings: Settings, payload: Mapping[str, Any]) -> None:
    """Approve or change a terminal, and show the result; exit with 1 if it is not allowed.

    Args:
        store: the store.
        settings: the configuration.
        payload: the payload of the command `admit`, its password in plain text.
    """
    command = _parsed(payload)
    if store.bridge_running:
        password = command.changes.get("password")
        if isinstance(password, Secret):
            # The bridge accepts a hash, so the password itself does not leave this process.
            payload = {**payload, "password": (await _hashed(password)).reveal()}
        reply = await _bridge_reply(store, ADMIT.name, payload)
    else:
        async with _own_admission(store, settings) as admission:
            reply = (await admission.admit(command, store.context.origin)).as_json()
    if reply["outcome"] != "ok":
        _fail(reply)
    name = command.changes.get("name")
    known = store.known.get(command.sn)
    verb = "is approved" if known is None else "is changed"
    click.echo(f"terminal {command.sn}{f' ({name})' if isinstance(name, str) else ''} {verb}")
    if not store.bridge_running:
        click.echo(f"{_NO_BRIDGE}: the next one that starts knows the terminal")
    elif reply["message"]:
        click.echo(reply["message"])


async def forget(store: OpenStore, settings: Settings, sn: str) -> None:
    """Forget a terminal, and show the result; exit with 1 if it is not allowed."""
    if store.bridge_running:
        reply = await _bridge_reply(store, FORGET.name, {"sn": sn})
    else:
        async with _own_admission(store, settings) as admission:
            reply = (await admission.forget(Forget(sn=sn), store.context.origin)).as_json()
    if reply["outcome"] != "ok":
        _fail(reply)
    click.echo(f"{store.title(sn)} is forgotten")
    if reply["message"]:
        click.echo(reply["message"])


async def _rows(store: OpenStore) -> list[dict[str, Any]]:
    if not store.bridge_running:
        return [
            {
                "sn": one.sn,
                "name": one.name,
                "state": None,
                "address": None,
                "since": None,
                "last_seen": None,
                "area": one.area,
                "groups": list(one.groups),
                "origin": one.origin.value,
            }
            for one in store.known.values()
        ]
    found = await _requested(store, {"command": "terminals"})
    pending = [
        {
            "sn": one["sn"],
            "name": None,
            "state": "pending",
            "address": one["address"],
            "since": one["since"],
            "last_seen": one["last_seen"],
            "area": None,
            "groups": [],
            "origin": None,
        }
        for one in found["pending"]
    ]
    known = [
        {
            "sn": one["sn"],
            "name": one["name"],
            "state": "online" if one["online"] else "offline",
            "address": one["address"],
            "since": one["connected_at"] if one["online"] else one["last_seen"],
            "last_seen": one["last_seen"],
            "area": one["area"],
            "groups": one["groups"],
            "origin": one["origin"],
        }
        for one in found["terminals"]
    ]
    return pending + known


async def _bridge_reply(store: OpenStore, command: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    value = {"command": command, "payload": payload, "source": store.context.origin.source}
    reply: dict[str, Any] = (await _requested(store, value))["reply"]
    return reply


async def _requested(store: OpenStore, value: Mapping[str, Any]) -> dict[str, Any]:
    suffix = await store.database.read(read_client_suffix)
    try:
        return await request(suffix or "", value)
    except NoBridgeReachedError as error:
        raise click.ClickException(str(error)) from None


@asynccontextmanager
async def _own_admission(store: OpenStore, settings: Settings) -> AsyncIterator[Admission]:
    """Hold the store as a bridge does, and yield the part of it that approves and forgets terminals."""
    transactions = store.context.transactions
    context = transactions.context
    registry = TerminalRegistry(context.events, context.clock)
    photos = PhotoPreparer(settings.photos.folders, settings.photos.max_bytes, settings.photos.size)
    verifier = PasswordVerifier()
    try:
        # A bridge that starts meanwhile would not learn of the terminal: it waits for this lock.
        async with instance_lock(settings.store.url.reveal(), wait_seconds=0):
            await transactions.load()
            options = PersonOptions(timezone=LocalTimezone())
            persons = PersonService(registry, transactions, photos, options, _new_msgid, SystemRandom().random)
            terminals = StoredTerminals(store.database, context.clock.now)
            services = AdmissionServices(terminals=terminals, persons=persons, hasher=verifier)
            admission = Admission(registry, context.events, context.clock, services, "known")
            await admission.load(settings.terminals.known)
            yield admission
    finally:
        verifier.close()
        photos.close()


def _new_msgid() -> str:
    return str(uuid4())


async def _hashed(password: Secret) -> Secret:
    verifier = PasswordVerifier()
    try:
        return await verifier.hash(password)
    finally:
        verifier.close()


def _parsed(payload: Mapping[str, Any]) -> Admit:
    try:
        command = ADMIT.build_from(payload, "")
    except InvalidError as error:
        raise click.UsageError("; ".join(f"--{fault.path}: {fault.message}" for fault in error.faults)) from None
    assert isinstance(command, Admit)
    return command


def _fail(reply: Mapping[str, Any]) -> NoReturn:
    errors = reply.get("errors")
    message = "; ".join(_shown_error(error) for error in errors) if errors else reply["message"]
    if reply["outcome"] == "unavailable":
        raise UnavailableError(message)
    raise click.ClickException(message)


def _shown_error(error: Mapping[str, str]) -> str:
    # The message about an SN names it.
    return error["message"] if error["path"] in ("", "sn") else f"{error['path']}: {error['message']}"
