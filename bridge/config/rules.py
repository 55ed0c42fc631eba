"""What must hold between the keys of one section of the configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import voluptuous as vol

from bridge.config.document import UNREADABLE

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names under which nobody but this machine reaches a port; the HTTP server asks no login behind them."""


@dataclass(frozen=True, slots=True)
class SectionRule:
    """One such rule.

    Attributes:
        keys: what it looks at; it is left out while one of them is wrong by itself.
        broken: returns the faults of a section whose keys are checked.
    """

    keys: frozenset[str]
    broken: Callable[[Mapping[str, Any]], list[vol.Invalid]]


def needs(key: str, other: str) -> SectionRule:
    """Let `key` be given only with `other`."""

    def broken(checked: Mapping[str, Any]) -> list[vol.Invalid]:
        if checked[key] is None or checked[other] is not None:
            return []
        return [vol.Invalid(f"must be given where {key} is", path=[other])]

    return SectionRule(frozenset({key, other}), broken)


def together(one: str, other: str) -> tuple[SectionRule, SectionRule]:
    """Let both be given or none."""
    return needs(one, other), needs(other, one)


def _without_door_credentials(terminals: Mapping[str, Any]) -> list[vol.Invalid]:
    known, admit = terminals["known"], terminals["admit"]
    if terminals["username"] is not None or terminals["password"] is not None or UNREADABLE in (known, admit):
        return []
    faults = [
        vol.Invalid("needs a username and a password, here or for all in terminals", path=["known", sn])
        for sn, own in known.items()
        if own is not UNREADABLE and own["password"] is None
    ]
    if admit == "any" or not known:
        message = "must be given, with username: what the terminals log in with"
        faults.append(vol.Invalid(message, path=["password"]))
    return faults


def _open_without_login(web: Mapping[str, Any]) -> list[vol.Invalid]:
    if web["host"] in _LOOPBACK | {UNREADABLE} or web["username"] is not None or web["password"] is not None:
        return []
    message = f"must be given, with password: {web['host']} is open to other machines"
    return [vol.Invalid(message, path=["username"])]


DOOR_CREDENTIALS = SectionRule(frozenset({"username", "password", "admit", "known"}), _without_door_credentials)
"""Every terminal has something to log in with: its own, or what all give."""
LOGIN_WHERE_OTHERS_REACH = SectionRule(frozenset({"host", "username", "password"}), _open_without_login)
"""Where other machines reach the page, people log in; tokens are for programs and do not stand in for that."""
