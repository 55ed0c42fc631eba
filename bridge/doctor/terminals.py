"""How the terminals behave, as far as it shows on the broker and in the store."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge.doctor.findings import Finding, found
from bridge.doctor.listening import Observations
from bridge.model.faults import shorten
from bridge.model.names import is_serial_number
from bridge.mqtt.topics import Topics

_LONG = timedelta(minutes=10)
"""Offline for so long is no restart of the terminal any more."""

_LOOP = 2
"""Times that a terminal connects again while somebody listens for some seconds: once can happen."""

_MANY = 4
"""Terminals behind one address from which on that is no coincidence."""

_NAMED = 5
"""Terminals that are named; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the terminals are judged by.

    Attributes:
        heard: on the broker.
        topics: of the bridge.
        known: the terminals that the configuration and the store know, with their names.
        answered: those that have ever answered something, as far as the store tells.
        has_proxies: whether `terminals.trusted_proxies` names any.
        metrics: of the running bridge.
        now: the time.
    """

    heard: Observations
    topics: Topics
    known: Mapping[str, str | None]
    answered: Collection[str]
    has_proxies: bool
    metrics: Mapping[str, float] | None
    now: datetime


def judge_terminals(around: Surroundings) -> list[Finding]:
    """Say how they behave. A bridge must be online."""
    states = {sn: around.heard.json(around.topics.terminal_state(sn)) for sn in around.known}
    findings = [
        *_offline(around, states),
        *_reconnecting(around),
        *_turned_away(around),
        *_pending(around),
        *_refused(around, states),
        *_one_address(around, states),
        *_left_over(around),
    ]
    if not around.known:
        findings.append(
            found("terminals_none", "no terminal is known yet", "set one up (README), then approve or list it")
        )
    elif not findings:
        findings.append(found("terminals_ok", f"{len(around.known):,} known, all online"))
    return findings


def _offline(around: Surroundings, states: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    started = _moment(around.heard.json(around.topics.bridge_info).get("started_at"))
    never, long, lately = [], [], []
    for sn, state in states.items():
        if around.heard.values.get(around.topics.terminal_availability(sn)) == b"online" or state.get("online"):
            continue
        last_seen = _moment(state.get("last_seen"))
        since = last_seen or started
        is_long = since is None or around.now - since > _LONG
        if last_seen is None and sn not in around.answered and is_long:
            never.append(sn)
        elif is_long:
            long.append(sn)
        else:
            lately.append(sn)
    findings = []
    if never:
        findings.append(
            found(
                "terminals_never_seen",
                f"known, and never connected as far as can be seen: {_titles(never, around.known)}",
                "compare the SN, and on the terminal the server's address, port and path; else take it out of the"
                " configuration or forget it",
            )
        )
    if long:
        findings.append(
            found(
                "terminals_offline_long",
                f"offline for more than {_LONG // timedelta(minutes=1)} minutes: {_titles(long, around.known)}",
                "look at its power and network; it connects again by itself",
            )
        )
    if lately:
        findings.append(
            found("terminals_offline", f"offline just now, or not back yet: {_titles(lately, around.known)}")
        )
    return findings


def _reconnecting(around: Surroundings) -> list[Finding]:
    heard = around.heard
    times = {
        sn: max(len(heard.connected.get(sn, ())) - 1, heard.came_online[sn])
        for sn in {*heard.connected, *heard.came_online}
    }
    looping = [sn for sn, number in times.items() if number >= _LOOP]
    if not looping:
        return []
    worst = max(times.values())
    return [
        found(
            "terminals_reconnecting",
            f"connecting again and again ({worst} times in {heard.seconds:.0f} s): {_titles(looping, around.known)}",
            "look whether two devices have the same SN, at the network, and at time-outs of a proxy in between",
        )
    ]


def _turned_away(around: Surroundings) -> list[Finding]:
    wrong: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for event in around.heard.events:
        if event.get("type") != "terminal_refused":
            continue
        who = f"{shorten(str(event.get('sn')), 64)} from {shorten(str(event.get('address')), 64)}"
        reason = str(event.get("reason"))
        if "credentials" in reason:
            wrong[who] += 1
        else:
            others[f"{who} ({shorten(reason, 100)})"] += 1
    findings = []
    if wrong:
        findings.append(
            found(
                "terminals_wrong_credentials",
                f"turned away for wrong credentials just now: {_some(list(wrong))}",
                "enter terminals.username and terminals.password on the terminal",
            )
        )
    total = int((around.metrics or {}).get("facebridge_terminals_refused_total", 0))
    if others:
        findings.append(
            found("terminals_turned_away", f"turned away just now: {_some(list(others))}", "see the reason")
        )
    elif total and not wrong:
        findings.append(
            found(
                "terminals_turned_away",
                f"{total:,} connections were turned away at the terminals' door since the bridge was started; none just"
                " now",
                "the bridge's log says whom and why (`refused`)",
            )
        )
    return findings


def _pending(around: Surroundings) -> list[Finding]:
    waiting = around.heard.json(around.topics.bridge_info).get("pending")
    if not isinstance(waiting, list) or not waiting:
        return []
    who = [
        f"{shorten(str(one.get('sn')), 64)} from {shorten(str(one.get('address')), 64)}"
        for one in waiting
        if isinstance(one, dict)
    ]
    return [
        found(
            "terminals_pending",
            f"waiting for approval: {_some(who)}",
            f"approve what is yours: {around.topics.base}/bridge/admit/set, or list it under terminals.known",
        )
    ]


def _refused(around: Surroundings, states: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    numbers = {sn: _number(state, "refused") for sn, state in states.items() if _number(state, "refused")}
    if not numbers:
        return []
    return [
        found(
            "terminals_persons_refused",
            f"{sum(numbers.values()):,} persons are refused by {_titles(list(numbers), around.known)}",
            "`facebridge persons verify` shows whom and why; change them, or sync the terminal",
        )
    ]


def _one_address(around: Surroundings, states: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    addresses = Counter(str(state["address"]) for state in states.values() if state.get("address"))
    if not addresses or around.has_proxies:
        return []
    address, number = addresses.most_common(1)[0]
    if number < _MANY or 2 * number < addresses.total():
        return []
    return [
        found(
            "terminals_one_address",
            f"{number} of {addresses.total()} terminals come from {shorten(address, 64)}: behind a proxy or NAT, where"
            " one that guesses passwords cannot be told from the others",
            "behind a proxy, let it send X-Forwarded-For and name it in terminals.trusted_proxies; behind NAT nothing"
            " helps but another network",
        )
    ]


def _left_over(around: Surroundings) -> list[Finding]:
    base = f"{around.topics.base}/terminal/"
    there = {
        sn
        for topic in around.heard.retained
        if topic.startswith(base)
        for sn in [topic.removeprefix(base).partition("/")[0]]
        if is_serial_number(sn)
    }
    left = sorted(there - set(around.known))
    if not left:
        return []
    return [
        found(
            "topics_left_over",
            f"retained topics of terminals that nobody knows any more: {_some(left)}",
            f"clear them: mosquitto_pub -r -n -t {base}SN/state, and …/availability",
        )
    ]


def _titles(sns: Sequence[str], known: Mapping[str, str | None]) -> str:
    return _some([f"{sn} ({shorten(name, 40)})" if (name := known.get(sn)) else sn for sn in sns])


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _number(state: Mapping[str, Any], name: str) -> int:
    persons = state.get("persons")
    number = persons.get(name) if isinstance(persons, dict) else None
    return number if isinstance(number, int) else 0


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
