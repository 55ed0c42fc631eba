"""Runs every check, each within its time and for itself: one that fails is a finding, and stops no other."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from bridge import __version__
from bridge.config.settings import Settings
from bridge.core.clock import Clock
from bridge.doctor.broker import greet, judge_greeting, judge_unreachable, try_protocol_5
from bridge.doctor.clock import is_synchronised, judge_audit_time, judge_clock, judge_timezone
from bridge.doctor.configuration import judge_configuration
from bridge.doctor.findings import Area, Finding, found
from bridge.doctor.listening import Observations, listen
from bridge.doctor.ports import judge_port, look_at_port
from bridge.doctor.running_bridge import BridgeHealth, ask_bridge, date_of, judge_vitals
from bridge.doctor.store import judge_place, judge_store
from bridge.doctor.terminals import Surroundings, judge_terminals
from bridge.doctor.traffic import judge_commands, judge_flaps, judge_heartbeats, judge_homeassistant, judge_sys
from bridge.doctor.trials import (
    BrokerAccess,
    try_large_packets,
    try_own_topics,
    try_permissions,
    try_retained,
    try_round_trips,
    try_session,
)
from bridge.model.faults import UnavailableError, shorten
from bridge.mqtt.client.messages import NotConnectedError
from bridge.mqtt.discovery.names import node_of
from bridge.mqtt.topics import Topics
from bridge.store.errors import StoreError
from bridge.store.inspection import StoreInspection, inspect_store, store_file
from bridge.store.instance_lock import is_bridge_running

_PATIENCE = 30.0
"""Seconds for one check: what it asks answers within ten, several times."""
_LARGE_STORE = 300.0
"""Seconds for the store: SQLite's quick check reads all of it."""
_SLOW_LINE = 120.0
"""Seconds for large packets: some megabytes both ways."""

_Work = Callable[[], Awaitable[Iterable[Finding]]]


@dataclass(slots=True)
class _Seen:
    """What several judges look at; what could not be had is as if nothing were there."""

    bridge_running: bool = False
    store: StoreInspection | None = None
    vitals: BridgeHealth = field(default_factory=BridgeHealth)
    heard: Observations | None = None


class Examination:
    """One examination of everything around the bridge."""

    def __init__(self, settings: Settings, file: Path, clock: Clock, listening: float, mark: str) -> None:
        """Prepare it.

        Args:
            settings: the configuration.
            file: where it stands.
            clock: the time.
            listening: seconds to listen on the broker for terminals that come and go.
            mark: for the doctor's clients and topics; no other examination's.
        """
        self._settings = settings
        self._file = file
        self._clock = clock
        self._listening = listening
        mqtt = settings.mqtt
        # The embedded broker's own settings (`app.embedded_broker`).
        self._is_embedded = mqtt.host is None
        if self._is_embedded:
            mqtt = replace(mqtt, host="127.0.0.1", protocol="3.1.1", username=None, password=None, tls=None)
        self._access = BrokerAccess(mqtt, mark, clock)
        self._topics = Topics(mqtt.base_topic)
        prefix = settings.homeassistant.prefix
        self._birth_topics = list(dict.fromkeys((f"{prefix}/status", "homeassistant/status")))
        self._discovery_topic = f"{prefix}/device/{node_of(mqtt.base_topic)}/config"
        self._seen = _Seen()

    async def run(self) -> list[Finding]:
        """Look at everything; return what was found, by area, the worst first within each."""
        findings = await run_check("configuration", Area.CONFIGURATION, self._configuration)
        # First of all who is there: much means something else beside a running bridge.
        findings += await run_check("the store", Area.STORE, self._store, _LARGE_STORE)
        several = await asyncio.gather(
            run_check("the running bridge", Area.BRIDGE, self._bridge),
            run_check("ports", Area.PORTS, self._ports),
            run_check("the clock", Area.CLOCK, self._time),
            self._broker(),
        )
        for some in several:
            findings += some
        order = list(Area)
        return sorted(findings, key=lambda one: (order.index(one.area), -one.level))

    async def _configuration(self) -> Iterable[Finding]:
        return judge_configuration(self._settings, self._file, self._clock.now())

    async def _store(self) -> Iterable[Finding]:
        settings = self._settings.store
        url = settings.url.reveal()
        findings = []
        try:
            if (file := store_file(url)) is not None:
                findings += await asyncio.to_thread(judge_place, file)
            seen = await inspect_store(url, settings.photo_key)
            # To look for a bridge makes its lock's file, so only where there is a store.
            self._seen.bridge_running = seen.exists and await is_bridge_running(url)
        except (StoreError, UnavailableError) as error:
            return [*findings, found("store_unusable", str(error), "see docs/operation.md, the store")]
        self._seen.store = seen
        return findings + judge_store(
            seen, settings.shown_url, self._clock.now(), bridge_running=self._seen.bridge_running
        )

    async def _bridge(self) -> Iterable[Finding]:
        web = self._settings.web
        if self._seen.bridge_running and web.port:
            self._seen.vitals = await ask_bridge(web)
        shown = f"web.port {web.port}" if web.port else "web.port 0, so nobody knows where"
        return judge_vitals(self._seen.vitals, bridge_running=self._seen.bridge_running, shown=shown)

    async def _ports(self) -> Iterable[Finding]:
        sections = (("terminals.port", self._settings.terminals), ("web.port", self._settings.web))
        return [
            judge_port(
                key,
                f"{section.host}:{section.port}",
                await look_at_port(section.host, section.port),
                bridge_running=self._seen.bridge_running,
            )
            for key, section in sections
        ]

    async def _time(self) -> Iterable[Finding]:
        others: dict[str, datetime] = {}
        store, url = self._seen.store, self._settings.web.url
        if store is not None and store.server_time is not None:
            others["the database server"] = store.server_time
        if url is not None and (there := await date_of(url)) is not None:
            others[url] = there
        findings = judge_clock(synchronised=is_synchronised(), now=self._clock.now(), others=others)
        findings += judge_audit_time(self._clock.now(), store.newest_record if store is not None else None)
        return findings + judge_timezone(os.environ)

    async def _broker(self) -> list[Finding]:
        access, mqtt = self._access, self._access.settings
        try:
            greeting = await greet(access)
        except NotConnectedError as error:
            if self._is_embedded and not self._seen.bridge_running:
                return []
            return [judge_unreachable(error, mqtt)]
        findings = judge_greeting(greeting, mqtt)
        if greeting.maximum_qos == 0:
            # All further ones need it, and would be hung up on.
            return findings
        # It listens while the trials run, on a connection of its own.
        heard, tried = await asyncio.gather(
            run_check("listening", Area.BROKER, self._hear, _PATIENCE + self._listening),
            self._trials(greeting.maximum_packet),
        )
        findings += [*heard, *tried]
        if self._seen.heard is not None:
            findings += await run_check("what was heard", Area.BROKER, self._judge_heard)
            findings += await run_check("the terminals", Area.TERMINALS, self._judge_terminals)
            if not self._is_online:
                findings += await run_check("permissions", Area.BROKER, lambda: try_permissions(access))
        return findings

    async def _trials(self, limit: int | None) -> list[Finding]:
        access = self._access
        impossible = await run_check("trials", Area.BROKER, lambda: try_own_topics(access))
        if impossible:
            return impossible
        # One after the other: a large packet on its way would be measured as a slow broker.
        findings = await run_check("round trips", Area.BROKER, lambda: try_round_trips(access))
        if not self._is_embedded:
            # That the embedded broker keeps no session is said already.
            findings += await run_check("sessions", Area.BROKER, lambda: try_session(access))
        findings += await run_check("large packets", Area.BROKER, lambda: try_large_packets(access, limit), _SLOW_LINE)
        findings += await run_check("retained messages", Area.BROKER, lambda: try_retained(access))
        if access.settings.protocol != "5" and not self._is_embedded:
            findings += await run_check("the protocol", Area.BROKER, lambda: try_protocol_5(access))
        return findings

    async def _hear(self) -> Iterable[Finding]:
        self._seen.heard = await listen(self._access, self._birth_topics, self._discovery_topic, self._listening)
        return []

    @property
    def _is_online(self) -> bool:
        heard = self._seen.heard
        return heard is not None and heard.values.get(self._topics.bridge_availability) == b"online"

    async def _judge_heard(self) -> Iterable[Finding]:
        heard = self._seen.heard
        assert heard is not None
        findings = [
            *judge_commands(heard),
            *judge_heartbeats(heard, self._settings.commands.deadline),
            *judge_flaps(heard),
            *self._judge_online(heard),
            *judge_homeassistant(
                heard, self._settings.homeassistant, self._birth_topics, self._discovery_topic, online=self._is_online
            ),
        ]
        return findings if self._is_embedded else [*findings, *judge_sys(heard)]

    def _judge_online(self, heard: Observations) -> list[Finding]:
        bridge_running = self._seen.bridge_running
        if not self._is_online:
            if not bridge_running:
                return []
            return [
                found(
                    "bridge_not_online",
                    f"a bridge runs on this store, and {self._topics.bridge_availability} does not say online",
                    "look into its log; it says what keeps it from the broker",
                )
            ]
        info = heard.json(self._topics.bridge_info)
        version = shorten(str(info.get("version")), 40)
        shown = f"version {version}, started at {shorten(str(info.get('started_at')), 40)}"
        if not bridge_running:
            return [
                found(
                    "bridge_elsewhere",
                    f"a bridge is online on {self._topics.base} ({shown}), and none runs on this store",
                    "if it is meant to run elsewhere, ask the doctor there; else stop it: two would share every topic",
                )
            ]
        findings = [found("bridge_online", f"the bridge is online ({shown})")]
        if version != __version__:
            findings.append(
                found(
                    "bridge_other_version",
                    f"the bridge that runs is of version {version}, this command of {__version__}",
                    "restart the bridge",
                )
            )
        warnings = info.get("warnings")
        return findings + [
            found("bridge_warns", f"the bridge warns: {shorten(str(warning), 200)}", "see there")
            for warning in (warnings if isinstance(warnings, list) else [])
        ]

    async def _judge_terminals(self) -> Iterable[Finding]:
        heard, store = self._seen.heard, self._seen.store
        assert heard is not None
        if not self._is_online:
            return [found("terminals_unseen", "no bridge is online, so the terminals cannot be seen")]
        if not self._seen.bridge_running:
            # Those of a bridge elsewhere are in its store, not in ours.
            return [found("terminals_unseen", "the bridge that is online runs on another store, which knows them")]
        known = {one.sn: one.name for one in self._settings.terminals.known}
        for terminal in store.terminals if store is not None else ():
            known.setdefault(terminal.sn, terminal.name)
        return judge_terminals(
            Surroundings(
                heard=heard,
                topics=self._topics,
                known=known,
                answered=store.answered if store is not None else (),
                has_proxies=bool(self._settings.terminals.trusted_proxies),
                metrics=self._seen.vitals.metrics,
                now=self._clock.now(),
            )
        )


async def run_check(name: str, area: Area, work: _Work, patience: float = _PATIENCE) -> list[Finding]:
    """Run one check; whatever happens to it is a finding.

    Args:
        name: what it looks at.
        area: of findings about the check itself.
        work: the check.
        patience: seconds that it may take.
    """
    try:
        async with asyncio.timeout(patience):
            return list(await work())
    except TimeoutError:
        what = f"the check of {name} has not come to an end within {patience:.0f} s"
        return [found("check_unfinished", what, "look at what hangs, and try again", area=area)]
    except NotConnectedError as error:
        what = f"the check of {name} was cut off: {error}"
        return [found("check_unfinished", what, "try again; if it happens again, see the broker's log", area=area)]
    except Exception as error:  # noqa: BLE001  a check that is broken must not hide what the others find
        what = f"the check of {name} itself has failed ({type(error).__name__}); that is a defect of Facebridge"
        return [found("check_failed", what, "report it", area=area)]
