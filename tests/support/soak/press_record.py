"""What became of each press of a soak, and whether promise 1 was kept."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support.soak.bridge import SoakBridge
from tests.support.soak.clock import DEADLINE_SECONDS, now
from tests.support.soak.mqtt_link import PUBACK, PUBLISH, LinkPacket
from tests.support.soak.terminals import TerminalHost

_SETTLED_SECONDS = 90.0
"""The age at which a press is checked and forgotten: a reply can come a minute after an outage of the broker."""

_REPLY_SECONDS = 8.0
"""A press that the bridge has acknowledged to the broker ends in this time, if the bridge runs."""

_DOUBLE_FAULT_SECONDS = 1.6
"""A press can be this late if the bridge freezes and the link breaks between its transmission and its acknowledgement
(docs/promises.md, limits of promise 1)."""

OVER_HTTP = "over_http"

_NOT_CARRIED_OUT = frozenset(("expired", "offline", "invalid", "unavailable"))


@dataclass(slots=True)
class PressOnTerminal:
    """A press on one terminal.

    Attributes:
        replies: the different replies: outcome, msgid, `delivered` and time of the bridge.
        sent: the msgids under which the bridge was about to write it.
    """

    replies: dict[tuple[str, str | None, bool | None, str], None] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)


@dataclass(slots=True)
class SoakPress:
    """A press.

    Attributes:
        request_id: unique in the soak.
        kind: how it is sent.
        asked: when its sender began to send it for the first time.
        sends: how often it is sent.
        is_carried_out: whether it may be carried out; false for a press that must be `invalid`.
        forwarded: the packets that reached the bridge: connection, packet id, time.
        acknowledged_at: when the bridge's first acknowledgement left the bridge.
        answered_at: when the first reply was seen.
        is_answered: whether an answer over HTTP has come.
        on: its terminals.
    """

    request_id: str
    kind: str
    asked: float
    sends: int = 1
    is_carried_out: bool = True
    forwarded: list[tuple[int, int | None, float]] = field(default_factory=list)
    acknowledged_at: float | None = None
    is_answered: bool = False
    answered_at: float | None = None
    on: dict[str, PressOnTerminal] = field(default_factory=dict)


class PressRecord:
    """Collects what senders, broker link, bridge, hosts and terminals say about presses, and compares it.

    Attributes:
        terminals: by serial number; they report to this record.
        faults: each break of a promise.
        outcomes: the replies by outcome.
        kinds: the presses by kind.
        latest_seconds: the greatest age at which a press was carried out on a terminal that was not stopped.
        late: presses that were carried out too late.
        hung: presses that a stopped terminal carried out after the deadline, although its host had them in time.
        double_faults: presses that were late in the way that docs/promises.md states.
        unanswered: presses without a reply by kind; the bridge had not received them, or was killed.
        carried_out: how many were carried out.
    """

    def __init__(self, bridge: SoakBridge) -> None:
        self.faults: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.latest_seconds = 0.0
        self.late = 0
        self.hung = 0
        self.double_faults = 0
        self.unanswered: Counter[str] = Counter()
        self.carried_out = 0
        self._bridge = bridge
        self.terminals: Mapping[str, TerminalHost] = {}
        self._presses: dict[str, SoakPress] = {}
        self._request_ids: dict[tuple[str, str], str] = {}
        self._arrived: dict[tuple[str, str], float] = {}
        self._done: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._unacknowledged: dict[tuple[int, int], SoakPress] = {}

    def begin(self, press: SoakPress) -> None:
        """Add a press that is about to be sent."""
        self._presses[press.request_id] = press
        self.kinds[press.kind] += 1

    def sending(self, sn: str, msgid: str, request_id: str | None) -> None:
        """Note that the bridge is about to write a press."""
        if request_id is None or request_id not in self._presses:
            self.faults.append(f"the bridge sends a press that the soak does not know: {request_id} on {sn}")
            return
        self._request_ids[sn, msgid] = request_id
        self._presses[request_id].on[sn].sent.append(msgid)

    def arrived(self, sn: str, msgid: str, at: float) -> None:
        """Note that a terminal's host has received a press."""
        self._arrived.setdefault((sn, msgid), at)

    def was_carried_out(self, sn: str, msgid: str, at: float) -> None:
        """Note that a terminal has carried a press out."""
        self._done[sn, msgid].append(at)
        self.carried_out += 1

    def forwarded(self, packet: LinkPacket) -> None:
        """Note a packet between bridge and broker."""
        if packet.to_bridge and packet.type == PUBLISH and packet.topic.endswith(("/open/set", "/reboot/set")):
            press = self._presses.get(_request_id(packet.payload) or "")
            if press is not None:
                press.forwarded.append((packet.connection, packet.packet_id, now()))
                if packet.packet_id is not None:
                    self._unacknowledged[packet.connection, packet.packet_id] = press
        elif not packet.to_bridge and packet.type == PUBACK and packet.packet_id is not None:
            press = self._unacknowledged.pop((packet.connection, packet.packet_id), None)
            if press is not None and press.acknowledged_at is None:
                press.acknowledged_at = now()
        elif not packet.to_bridge and packet.type == PUBLISH:
            self.received(packet.topic, packet.payload)

    def received(self, topic: str, payload: bytes) -> None:
        """Note a reply over MQTT."""
        if topic.startswith("facebridge/terminal/") and topic.endswith("/reply"):
            self.replied(orjson.loads(payload))
        elif topic.startswith("facebridge/group/") and topic.endswith("/reply"):
            reply = orjson.loads(payload)
            press = self._presses.get(reply["request_id"] or "")
            if press is not None and "outcome" in reply:
                # The whole press is invalid: its terminals do not reply.
                for sn in press.on:
                    self.replied({**reply, "sn": sn})

    def answered(self, press: SoakPress, answer: Mapping[str, Any]) -> None:
        """Note the answer to a press over HTTP: a reply, or the summary of a group."""
        press.is_answered = True
        if "sn" in answer:
            self.replied(answer)

    def replied(self, reply: Mapping[str, Any]) -> None:
        """Note a reply of one terminal."""
        press = self._presses.get(reply["request_id"] or "")
        if press is None or reply["sn"] not in press.on:
            return
        if press.answered_at is None:
            press.answered_at = now()
        key = reply["outcome"], reply["msgid"], reply["delivered"], reply["at"]
        replies = press.on[reply["sn"]].replies
        if key not in replies:
            replies[key] = None
            self.outcomes[reply["outcome"]] += 1

    def check(self, *, everything: bool = False) -> None:
        """Check the presses that have settled, or all of them, and forget them."""
        until = float("inf") if everything else now() - _SETTLED_SECONDS
        for press in [one for one in self._presses.values() if one.asked < until]:
            for sn, on in press.on.items():
                self._check(press, sn, on)
            del self._presses[press.request_id]
        if everything:
            self.faults += [f"{sn} carried out {msgid}, which the bridge did not log" for sn, msgid in self._done]

    def _check(self, press: SoakPress, sn: str, on: PressOnTerminal) -> None:
        what = f"{press.kind} press {press.request_id} on {sn} (asked {press.asked:.3f}, sent {press.sends} times)"
        done = [(msgid, at) for msgid in on.sent for at in self._done.pop((sn, msgid), ())]
        arrived = {msgid: at for msgid in on.sent if (at := self._arrived.pop((sn, msgid), None)) is not None}
        for msgid in on.sent:
            self._request_ids.pop((sn, msgid), None)
        replies = list(on.replies)
        evidence = f"{replies=} {done=} {arrived=} {press.forwarded=} {press.acknowledged_at=}"
        if len(done) > 1:
            self.faults.append(f"carried out {len(done)} times: {what}: {evidence}")
        if done and not press.is_carried_out:
            self.faults.append(f"carried out, although it is not allowed: {what}: {evidence}")
        for msgid, at in done:
            if msgid not in arrived:
                self.faults.append(f"carried out without having arrived, so the wire tap fails: {what}: {evidence}")
                continue
            fault = self._lateness(press, sn, arrived[msgid], at)
            if fault:
                self.late += 1
                self.faults.append(f"{fault}: {what}: {evidence}")
        self._check_replies(press, on, done, arrived, f"{what}: {evidence}")

    def _lateness(self, press: SoakPress, sn: str, arrived: float, done: float) -> str | None:
        """Return how the promise was broken, if it was; count what the documented limits allow."""
        terminal = self.terminals[sn]
        until = press.asked + DEADLINE_SECONDS
        if arrived > until:
            frozen = _overlaps(self._bridge.stopped, press.asked, arrived)
            if (
                frozen
                and _overlaps(terminal.cut_off, press.asked, arrived)
                and arrived <= until + _DOUBLE_FAULT_SECONDS
            ):
                self.double_faults += 1
                return None
            return f"arrived late, after {arrived - press.asked:.2f} s"
        if _overlaps(terminal.stopped, arrived, done):
            # The bridge can neither see nor prevent that a stopped program reads later what its kernel received.
            self.hung += done > until
            return None
        self.latest_seconds = max(self.latest_seconds, done - press.asked)
        return None if done <= until else f"carried out late, after {done - press.asked:.2f} s"

    def _check_replies(
        self,
        press: SoakPress,
        on: PressOnTerminal,
        done: Sequence[tuple[str, float]],
        arrived: Mapping[str, float],
        what: str,
    ) -> None:
        replies = list(on.replies)
        if not replies:
            self.unanswered[press.kind] += 1
            if self._needs_reply(press):
                killed = [one for one in self._bridge.killed if one[1] >= press.asked]
                frozen = [one for one in self._bridge.stopped if one[1] >= press.asked]
                self.faults.append(f"no reply: {what} {killed=} {frozen=}")
            return
        if press.kind == OVER_HTTP and not press.is_answered and self._needs_reply(press):
            self.faults.append(f"no answer: {what}")
        if len(replies) > 1:
            # A killed bridge does not remember presses, and refuses one that is sent again, because it is too old.
            if press.sends == 1 or not _overlaps(self._bridge.killed, press.asked, now()):
                self.faults.append(f"{len(replies)} different replies: {what}")
            return
        outcome, msgid, delivered, _ = replies[0]
        if press.sends > 1 and _overlaps(self._bridge.killed, press.asked, now()):
            return
        if outcome == "ok" and [one for one, _ in done] != [msgid]:
            self.faults.append(f"ok, but not carried out once: {what}")
        if (delivered is False or outcome in _NOT_CARRIED_OUT) and (arrived or done):
            self.faults.append(f"reported as not delivered, but it arrived: {what}")
        if delivered is True and not arrived:
            self.faults.append(f"reported as delivered, but it did not arrive: {what}")
        if outcome == "refused":
            self.faults.append(f"no terminal refuses presses: {what}")
        if not press.is_carried_out and outcome not in ("invalid", "expired"):
            self.faults.append(f"must be invalid: {what}")

    def _needs_reply(self, press: SoakPress) -> bool:
        """Return whether the bridge must have replied: it has received the press for certain, and was not killed."""
        at = press.asked if press.kind == OVER_HTTP else press.acknowledged_at
        if at is None:
            return False
        return not _overlaps(self._bridge.killed, at, at + _REPLY_SECONDS + _frozen(self._bridge, at))


def _request_id(payload: bytes) -> str | None:
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return value.get("request_id") if isinstance(value, dict) else None


def _overlaps(intervals: Sequence[tuple[float, float]], since: float, until: float) -> bool:
    return any(start <= until and end >= since for start, end in intervals)


def _frozen(bridge: SoakBridge, since: float) -> float:
    """Return for how long the bridge was frozen shortly after a time."""
    return sum(end - start for start, end in bridge.stopped if end >= since and start <= since + _REPLY_SECONDS)
