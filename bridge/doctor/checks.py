"""One run of the doctor: all checks, each with a time limit. A check that fails is a finding and stops no other."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from bridge import __version__
from bridge.config.settings import Settings
from bridge.doctor.broker import check_connection, check_protocol_5
from bridge.doctor.clock import (
    evaluate_audit_time,
    evaluate_clock,
    evaluate_expired_presses,
    evaluate_timezone,
    is_synchronised,
)
from bridge.doctor.configuration import evaluate_configuration
from bridge.doctor.findings import Area, Finding, make_finding
from bridge.doctor.listening import Observations, listen
from bridge.doctor.ports import check_ports
from bridge.doctor.probe import BrokerAccess
from bridge.doctor.running_bridge import BridgeHealth, evaluate_bridge_health, read_bridge_health, server_date
from bridge.doctor.store import StoreCheck, check_store, check_store_location, evaluate_groups
from bridge.doctor.terminals import TerminalContext, evaluate_terminals
from bridge.doctor.traffic import (
    evaluate_availability,
    evaluate_broker_statistics,
    evaluate_commands,
    evaluate_heartbeats,
    evaluate_home_assistant,
)
from bridge.doctor.trials import (
    check_large_packets,
    check_own_topics,
    check_permissions,
    check_retained,
    check_round_trips,
    check_session,
    check_takeover,
)
from bridge.model.faults import shorten
from bridge.mqtt.client.errors import NotConnectedError
from bridge.mqtt.discovery.names import node_of
from bridge.mqtt.topics import Topics
from bridge.store.engine import store_file
from bridge.store.errors import StoreError

_CHECK_TIMEOUT_SECONDS = 30.0
"""Time for one check. It waits for several answers, and each has ten seconds."""
STORE_TIMEOUT_SECONDS = 300.0
"""Time for the store: SQLite's quick check reads all of it."""
_LARGE_PACKETS_TIMEOUT_SECONDS = 120.0
"""Time for the large packets: some megabytes both ways, over a slow line."""

_Check = Callable[[], Awaitable[Iterable[Finding]]]


@dataclass(slots=True)
class _Results:
    """Results that later checks use. A default means that there is nothing, or that it could not be read."""

    store: StoreCheck = field(default_factory=lambda: StoreCheck([]))
    health: BridgeHealth = field(default_factory=BridgeHealth)
    observed: Observations | None = None


class DoctorRun:
    """One run of all checks."""

    def __init__(self, settings: Settings, file: Path | None, access: BrokerAccess, listen_seconds: float) -> None:
        """Prepare the run.

        Args:
            settings: the configuration.
            file: its file; None if it has none.
            access: how to reach the broker.
            listen_seconds: how long to observe the broker.
        """
        self._settings = settings
        self._file = file
        self._access = access
        self._clock = access.clock
        self._listen_seconds = listen_seconds
        self._is_embedded = settings.mqtt.host is None
        self._topics = Topics(settings.mqtt.base_topic)
        prefix = settings.homeassistant.prefix
        self._birth_topics = list(dict.fromkeys((f"{prefix}/status", "homeassistant/status")))
        self._discovery_topic = f"{prefix}/device/{node_of(settings.mqtt.base_topic)}/config"
        self._results = _Results()

    async def run(self) -> list[Finding]:
        """Run all checks; return the findings by area, the worst first within each area."""
        findings = await run_check("configuration", Area.CONFIGURATION, self._check_configuration)
        # The store says whether a bridge runs, and many findings depend on that.
        findings += await run_check("the store", Area.STORE, self._check_store, STORE_TIMEOUT_SECONDS)
        results = await asyncio.gather(
            run_check("the running bridge", Area.BRIDGE, self._check_bridge),
            run_check("ports", Area.PORTS, self._check_ports),
            run_check("the clock", Area.CLOCK, self._check_clock),
            self._check_broker(),
        )
        for result in results:
            findings += result
        order = list(Area)
        return sorted(findings, key=lambda one: (order.index(one.area), -one.level))

    async def _check_configuration(self) -> Iterable[Finding]:
        return evaluate_configuration(self._settings, self._file, self._clock.now())

    async def _check_store(self) -> Iterable[Finding]:
        settings = self._settings.store
        self._results.store = await check_store(settings, self._clock.now())
        inspection = self._results.store.inspection
        if inspection is not None:
            # The configuration wins.
            terminals = {one.sn: one for one in (*inspection.terminals, *self._settings.terminals.known)}
            self._results.store.findings.extend(evaluate_groups(inspection.kept, terminals.values()))
        findings = list(self._results.store.findings)
        try:
            file = store_file(settings.url.reveal())
        except StoreError:
            # Reported by `check_store`.
            return findings
        if file is None:
            return findings
        findings += await asyncio.to_thread(check_store_location, file)
        if any(one.code == "store_disk_full" for one in findings):
            # "can be used" would contradict it.
            findings = [one for one in findings if one.code != "store_ok"]
        return findings

    async def _check_bridge(self) -> Iterable[Finding]:
        web, bridge_running = self._settings.web, self._results.store.bridge_running
        if bridge_running and web.port:
            self._results.health = await read_bridge_health(web)
        address = f"web.port {web.port}" if web.port else "web.port 0, a port that the doctor cannot know"
        return evaluate_bridge_health(self._results.health, bridge_running=bridge_running, address=address)

    async def _check_ports(self) -> Iterable[Finding]:
        return await check_ports(self._settings, bridge_running=self._results.store.bridge_running)

    async def _check_clock(self) -> Iterable[Finding]:
        others: dict[str, datetime] = {}
        inspection, url = self._results.store.inspection, self._settings.web.url
        if inspection is not None and inspection.server_time is not None:
            others["the database server"] = inspection.server_time
        if url is not None and (date := await server_date(url)) is not None:
            others[url] = date
        now, newest_record = self._clock.now(), inspection.newest_record if inspection is not None else None
        return [
            *evaluate_clock(synchronised=is_synchronised(), now=now, others=others),
            *evaluate_audit_time(now, newest_record),
            *evaluate_expired_presses(inspection.differing_clocks if inspection is not None else 0),
            *evaluate_timezone(os.environ),
        ]

    async def _check_broker(self) -> list[Finding]:
        connection = await check_connection(self._access)
        if connection.connack is None and self._is_embedded and not self._results.store.bridge_running:
            # The embedded broker runs only together with the bridge.
            return []
        findings = connection.findings
        if connection.connack is None or connection.connack.maximum_qos == 0:
            # The other checks need QoS 1, and the broker would disconnect them.
            return findings
        # Listening has a connection of its own, so it runs at the same time.
        listening, trials = await asyncio.gather(
            run_check("listening", Area.BROKER, self._listen, _CHECK_TIMEOUT_SECONDS + self._listen_seconds),
            self._run_trials(connection.connack.maximum_packet),
        )
        findings += [*listening, *trials]
        if self._results.observed is not None:
            findings += await run_check("the observed messages", Area.BROKER, self._evaluate_observed)
            findings += await run_check("the terminals", Area.TERMINALS, self._evaluate_terminals)
            if not self._is_bridge_online:
                findings += await run_check("permissions", Area.BROKER, lambda: check_permissions(self._access))
        return findings

    async def _run_trials(self, packet_limit: int | None) -> list[Finding]:
        access = self._access
        impossible = await run_check("trials", Area.BROKER, lambda: check_own_topics(access))
        if impossible:
            return impossible
        # One after the other: during the transfer of a large packet the broker would be measured as slow.
        findings = await run_check("round trips", Area.BROKER, lambda: check_round_trips(access))
        if not self._is_embedded:
            # `broker_embedded` says already that the embedded broker keeps no session.
            findings += await run_check("sessions", Area.BROKER, lambda: check_session(access))
            findings += await run_check("takeovers", Area.BROKER, lambda: check_takeover(access))
        findings += await run_check(
            "large packets",
            Area.BROKER,
            lambda: check_large_packets(access, packet_limit),
            _LARGE_PACKETS_TIMEOUT_SECONDS,
        )
        findings += await run_check("retained messages", Area.BROKER, lambda: check_retained(access))
        if access.settings.protocol != "5" and not self._is_embedded:
            findings += await run_check("the protocol", Area.BROKER, lambda: check_protocol_5(access))
        return findings

    async def _listen(self) -> Iterable[Finding]:
        self._results.observed = await listen(
            self._access, self._birth_topics, self._discovery_topic, self._listen_seconds
        )
        return []

    @property
    def _is_bridge_online(self) -> bool:
        observed = self._results.observed
        return observed is not None and observed.values.get(self._topics.bridge_availability) == b"online"

    async def _evaluate_observed(self) -> Iterable[Finding]:
        observed = self._results.observed
        assert observed is not None
        findings = [
            *evaluate_commands(observed),
            *evaluate_heartbeats(observed, self._settings.commands.deadline),
            *evaluate_availability(observed),
            *self._evaluate_bridge(observed),
            *evaluate_home_assistant(
                observed,
                self._settings.homeassistant,
                self._birth_topics,
                self._discovery_topic,
                bridge_online=self._is_bridge_online,
            ),
        ]
        return findings if self._is_embedded else [*findings, *evaluate_broker_statistics(observed)]

    def _evaluate_bridge(self, observed: Observations) -> Iterator[Finding]:
        bridge_running = self._results.store.bridge_running
        if not self._is_bridge_online:
            if bridge_running:
                yield make_finding(
                    "bridge_not_online",
                    f"a bridge runs on this store, but {self._topics.bridge_availability} is not online",
                    "look into the bridge's log; it says why it cannot use the broker",
                )
            return
        info = observed.json(self._topics.bridge_info)
        version = shorten(str(info.get("version")), 40)
        shown = f"version {version}, started at {shorten(str(info.get('started_at')), 40)}"
        if not bridge_running:
            yield make_finding(
                "bridge_elsewhere",
                f"a bridge is online on {self._topics.base} ({shown}), but none runs on this store",
                "if it should run elsewhere, run the doctor there; otherwise stop it: two bridges would share every"
                " topic",
            )
            return
        yield make_finding("bridge_online", f"the bridge is online ({shown})")
        if version != __version__:
            yield make_finding(
                "bridge_other_version",
                f"the running bridge has version {version}, this command {__version__}",
                "restart the bridge",
            )
        warnings = info.get("warnings")
        for warning in warnings if isinstance(warnings, list) else []:
            yield make_finding("bridge_warns", f"the bridge warns: {shorten(str(warning), 200)}", "see the warning")

    async def _evaluate_terminals(self) -> Iterable[Finding]:
        observed, store = self._results.observed, self._results.store
        assert observed is not None
        if not self._is_bridge_online:
            return [make_finding("terminals_unseen", "no bridge is online, so the terminals cannot be seen")]
        if not store.bridge_running:
            return [
                make_finding("terminals_unseen", "the online bridge runs on another store, which holds its terminals")
            ]
        stored = store.inspection.terminals if store.inspection is not None else ()
        has_common_login = self._settings.terminals.password is not None
        # The configuration wins.
        terminals = {one.sn: one for one in (*stored, *self._settings.terminals.known)}
        return evaluate_terminals(
            TerminalContext(
                observed=observed,
                topics=self._topics,
                known={sn: one.name for sn, one in terminals.items()},
                sharing=[sn for sn, one in terminals.items() if one.password is None] if has_common_login else (),
                answered=store.inspection.answered if store.inspection is not None else (),
                has_proxies=bool(self._settings.terminals.trusted_proxies),
                metrics=self._results.health.metrics,
                now=self._clock.now(),
            )
        )


async def run_check(
    name: str, area: Area, check: _Check, timeout_seconds: float = _CHECK_TIMEOUT_SECONDS
) -> list[Finding]:
    """Run a check. Every failure of the check itself becomes a finding.

    Args:
        name: the subject of the check.
        area: the area of findings about the check itself.
        check: the check.
        timeout_seconds: the time limit.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return list(await check())
    except TimeoutError:
        what = f"the check of {name} did not end within {timeout_seconds:.0f} s"
        return [make_finding("check_unfinished", what, "look for the cause of the delay, and try again", area=area)]
    except NotConnectedError as error:
        what = f"the check of {name} was interrupted: {error}"
        return [
            make_finding("check_unfinished", what, "try again; if it happens again, see the broker's log", area=area)
        ]
    except Exception as error:  # noqa: BLE001  a defective check must not hide the findings of the others
        what = f"the check of {name} itself failed ({type(error).__name__}); this is a defect of Facebridge"
        return [make_finding("check_failed", what, "report it", area=area)]
