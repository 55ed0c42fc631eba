"""Findings about the terminals, from the broker's messages and the store."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge.doctor.findings import Finding, first_few, make_finding
from bridge.doctor.listening import Observations
from bridge.model.faults import shorten
from bridge.model.names import is_serial_number
from bridge.mqtt.topics import Topics

_LONG_OFFLINE = timedelta(minutes=10)
"""A terminal that is offline for longer is not merely restarting."""

_MANY_RECONNECTS = 2
"""Reconnects of a terminal within some seconds; a single one can happen."""

_MANY_SHARING = 2
"""From this number on, terminals that share a password can pose as each other."""

_MANY_AT_ONE_ADDRESS = 4
"""From this number on, terminals with the same address are not a coincidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalContext:
    """What is known of the terminals.

    Attributes:
        observed: the observations at the broker.
        topics: the bridge's topics.
        known: the terminals in the configuration and the store, with their names.
        sharing: the terminals that use the common login.
        answered: the terminals that have ever answered a command, according to the store.
        has_proxies: whether `terminals.trusted_proxies` lists any.
        metrics: the running bridge's metrics.
        now: the current time.
    """

    observed: Observations
    topics: Topics
    known: Mapping[str, str | None]
    sharing: Collection[str]
    answered: Collection[str]
    has_proxies: bool
    metrics: Mapping[str, float] | None
    now: datetime


def evaluate_terminals(context: TerminalContext) -> list[Finding]:
    """Report how the terminals behave. A bridge must be online."""
    states = {sn: context.observed.json(context.topics.terminal_state(sn)) for sn in context.known}
    findings = [
        *_offline(context, states),
        *_reconnecting(context),
        *_replaced(context),
        *_turned_away(context),
        *_pending(context),
        *_persons_refused(context, states),
        *_one_address(context, states),
        *_left_over_topics(context),
    ]
    if not context.known:
        findings.append(
            make_finding("terminals_none", "no terminal is known yet", "set one up (README), then approve or list it")
        )
    elif not findings:
        findings.append(make_finding("terminals_ok", f"{len(context.known):,} known, all online"))
    return [*findings, *_share_password(context)]


def _offline(context: TerminalContext, states: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    bridge_started = _parse_time(context.observed.json(context.topics.bridge_info).get("started_at"))
    never, long, lately = [], [], []
    for sn, state in states.items():
        availability = context.observed.values.get(context.topics.terminal_availability(sn))
        if availability == b"online" or state.get("online"):
            continue
        last_seen = _parse_time(state.get("last_seen"))
        since = last_seen or bridge_started
        is_long = since is None or context.now - since > _LONG_OFFLINE
        if last_seen is None and sn not in context.answered and is_long:
            never.append(sn)
        elif is_long:
            long.append(sn)
        else:
            lately.append(sn)
    if never:
        yield make_finding(
            "terminals_never_seen",
            f"known, but never connected as far as the doctor can see: {_titles(never, context)}",
            "compare the SN, and the server's address, port and path on the terminal; otherwise remove it from the"
            " configuration or forget it",
        )
    if long:
        yield make_finding(
            "terminals_offline_long",
            f"offline for more than {_LONG_OFFLINE // timedelta(minutes=1)} minutes: {_titles(long, context)}",
            "look at its power and network; it reconnects by itself",
        )
    if lately:
        yield make_finding("terminals_offline", f"offline just now, or not back yet: {_titles(lately, context)}")


def _reconnecting(context: TerminalContext) -> Iterator[Finding]:
    observed = context.observed
    times = {
        sn: max(len(observed.connected.get(sn, ())) - 1, observed.came_online[sn])
        for sn in {*observed.connected, *observed.came_online}
    }
    reconnecting = [sn for sn, number in times.items() if number >= _MANY_RECONNECTS]
    if reconnecting:
        most = max(times.values())
        yield make_finding(
            "terminals_reconnecting",
            f"reconnecting repeatedly ({most} times in {observed.seconds:.0f} s): {_titles(reconnecting, context)}",
            "check whether two devices have the same SN, the network, and the timeouts of a proxy in between",
        )


def _replaced(context: TerminalContext) -> Iterator[Finding]:
    times: Counter[str] = Counter()
    addresses: dict[str, set[str]] = {}
    for event in context.observed.events:
        if event.get("type") == "terminal_replaced":
            sn = shorten(str(event.get("sn")), 64)
            times[sn] += 1
            pair = (event.get("address"), event.get("previous_address"))
            addresses.setdefault(sn, set()).update(shorten(str(one), 64) for one in pair)
    # A single takeover from the same address is a terminal whose network was interrupted.
    suspicious = [sn for sn, number in times.items() if number >= _MANY_RECONNECTS or len(addresses[sn]) > 1]
    if suspicious:
        shown = [f"{sn} ({times[sn]} times, from {' and '.join(sorted(addresses[sn]))})" for sn in suspicious]
        yield make_finding(
            "terminals_replaced",
            f"a second connection with the same SN took over just now: {first_few(shown)}",
            "check whether another device has this SN; if none of yours has, give the terminal a username and password"
            " of its own, and new persons' photos may have gone to that device",
        )


def _share_password(context: TerminalContext) -> Iterator[Finding]:
    if len(context.sharing) >= _MANY_SHARING:
        yield make_finding(
            "terminals_share_password",
            f"{len(context.sharing):,} terminals use terminals.password: each device that knows it can connect as any"
            " of them, receive their persons and confirm them",
            "give each a username and password of its own: under terminals.known, or"
            f" {context.topics.base}/bridge/admit/set",
        )


def _turned_away(context: TerminalContext) -> Iterator[Finding]:
    wrong: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for event in context.observed.events:
        if event.get("type") != "terminal_refused":
            continue
        reason = str(event.get("reason"))
        if "credentials" in reason:
            wrong[_sn_and_address(event)] += 1
        else:
            others[f"{_sn_and_address(event)} ({shorten(reason, 100)})"] += 1
    if wrong:
        yield make_finding(
            "terminals_wrong_credentials",
            f"refused for wrong credentials just now: {first_few(list(wrong))}",
            "enter terminals.username and terminals.password on the terminal",
        )
    total = int((context.metrics or {}).get("facebridge_terminals_refused_total", 0))
    if others:
        yield make_finding(
            "terminals_turned_away", f"refused just now: {first_few(list(others))}", "see the reason in the brackets"
        )
    elif total and not wrong:
        yield make_finding(
            "terminals_turned_away",
            f"the bridge has refused {total:,} connections of terminals since it started, none just now",
            "the bridge's log says which and why (`refused`)",
        )


def _pending(context: TerminalContext) -> Iterator[Finding]:
    pending = context.observed.json(context.topics.bridge_info).get("pending")
    if isinstance(pending, list) and pending:
        terminals = [_sn_and_address(one) for one in pending if isinstance(one, dict)]
        yield make_finding(
            "terminals_pending",
            f"waiting for approval: {first_few(terminals)}",
            f"approve your own: {context.topics.base}/bridge/admit/set, or list them under terminals.known",
        )


def _persons_refused(context: TerminalContext, states: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    numbers = {sn: number for sn, state in states.items() if (number := _number_of_persons(state, "refused"))}
    if numbers:
        yield make_finding(
            "terminals_persons_refused",
            f"{sum(numbers.values()):,} persons are refused by {_titles(list(numbers), context)}",
            "`facebridge persons verify` shows the persons and reasons; change them, or sync the terminal",
        )


def _one_address(context: TerminalContext, states: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    addresses = Counter(str(state["address"]) for state in states.values() if state.get("address"))
    if not addresses or context.has_proxies:
        return
    address, number = addresses.most_common(1)[0]
    if number >= _MANY_AT_ONE_ADDRESS and 2 * number >= addresses.total():
        yield make_finding(
            "terminals_one_address",
            f"{number} of {addresses.total()} terminals come from {shorten(address, 64)}: they are behind a proxy or"
            " NAT, so the bridge cannot block one that guesses passwords without blocking the others",
            "behind a proxy, let it send X-Forwarded-For and list it in terminals.trusted_proxies; behind NAT only"
            " another network helps",
        )


def _left_over_topics(context: TerminalContext) -> Iterator[Finding]:
    base = f"{context.topics.base}/terminal/"
    retained = {
        sn
        for topic in context.observed.retained
        if topic.startswith(base)
        for sn in [topic.removeprefix(base).partition("/")[0]]
        if is_serial_number(sn)
    }
    left_over = sorted(retained - set(context.known))
    if left_over:
        yield make_finding(
            "topics_left_over",
            f"retained topics of terminals that are no longer known: {first_few(left_over)}",
            f"clear them: mosquitto_pub -r -n -t {base}SN/state, and …/availability",
        )


def _sn_and_address(terminal: Mapping[str, Any]) -> str:
    return f"{shorten(str(terminal.get('sn')), 64)} from {shorten(str(terminal.get('address')), 64)}"


def _titles(sns: Sequence[str], context: TerminalContext) -> str:
    return first_few([f"{sn} ({shorten(name, 40)})" if (name := context.known.get(sn)) else sn for sn in sns])


def _number_of_persons(state: Mapping[str, Any], key: str) -> int:
    persons = state.get("persons")
    number = persons.get(key) if isinstance(persons, dict) else None
    return number if isinstance(number, int) else 0


def _parse_time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
