"""The schema of `config.yaml`: every key, its default, its check, and the rules between keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import voluptuous as vol

from bridge.config.checks import (
    Check,
    Nullable,
    file_below,
    folder_below,
    group_name,
    host,
    list_of,
    login_name,
    network,
    number,
    one_of,
    photo_keys,
    picture_size,
    resolving,
    secret,
    store_url,
    text,
    topic,
    true_or_false,
    url_path,
    web_url,
    whole_number,
)
from bridge.config.document import UNREADABLE, KeyPath
from bridge.model.names import is_serial_number

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that only this machine can reach. The HTTP server requires no login on them."""


@dataclass(frozen=True, slots=True)
class SectionRule:
    """A rule between the keys of one section.

    Attributes:
        keys: the keys it reads; it is skipped if one of them has a fault.
        faults: returns the faults of a section whose keys are checked.
    """

    keys: frozenset[str]
    faults: Callable[[Mapping[str, Any]], list[vol.Invalid]]


class Section:
    """The check of a mapping with known keys.

    Attributes:
        keys: by name, the check and the default; the default of a required key is UNDEFINED.
    """

    def __init__(self, rules: tuple[SectionRule, ...], keys: dict[str, tuple[Check, Any]]) -> None:
        self.keys = keys
        self._rules = rules
        self._schema = vol.Schema(
            {
                vol.Required(name, default=default, msg="must be given"): resolving(check)
                for name, (check, default) in keys.items()
            }
        )

    def __call__(self, value: Any) -> Any:
        """Return the section with its defaults. Null is an empty section: all keys below it may be commented out."""
        if value is None:
            value = {}
        if isinstance(value, str) and (words := value.split()) and words[0] in self.keys:
            raise vol.Invalid(f"must be a section: the colon after {words[0]!r} is missing")
        if not isinstance(value, dict):
            raise vol.Invalid("must be a section: write its keys below it, one a line")
        try:
            checked = self._schema(value)
            faults: list[vol.Invalid] = []
        except vol.MultipleInvalid as several:
            faults = several.errors
            checked = self._keys_without_fault(value, {str(fault.path[0]) for fault in faults})
        for rule in self._rules:
            if rule.keys <= checked.keys():
                faults = faults + rule.faults(checked)
        if faults:
            raise vol.MultipleInvalid(faults)
        return checked

    def keys_at(self, path: KeyPath) -> list[str]:
        """Return the keys that are known below a path."""
        level: Any = self
        for part in path:
            level = level.each if isinstance(level, NamedSections) else level.keys[part][0]
            level = level.inner if isinstance(level, Nullable) else level
        return list(level.keys)

    def _keys_without_fault(self, value: dict[str, Any], faulty: set[str]) -> dict[str, Any]:
        """Return the valid keys of a section with faults, so that the rules can find more faults in the same run."""
        return {
            name: resolving(check)(value.get(name, default))
            for name, (check, default) in self.keys.items()
            if name not in faulty
        }


class NamedSections:
    """The check of a mapping from names that the user chooses to sections with the same keys.

    Attributes:
        each: the check of each section.
    """

    def __init__(self, each: Section, is_name: Callable[[str], bool], rule: str) -> None:
        """Create the check.

        Args:
            each: the check of each section.
            is_name: returns whether a name is allowed.
            rule: the message for a name that is not allowed.
        """
        self.each = each
        self._is_name = is_name
        self._rule = rule

    def __call__(self, value: Any) -> dict[str, Any]:
        """Return the checked sections by name."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise vol.Invalid("must be a list of names, each with its own keys below it")
        checked: dict[str, Any] = {}
        faults: list[vol.Invalid] = []
        for name, one in value.items():
            if not self._is_name(name):
                faults.append(vol.Invalid(self._rule, path=[name]))
            try:
                checked[name] = resolving(self.each)(one)
            except vol.Invalid as error:
                error.prepend([name])
                faults += error.errors if isinstance(error, vol.MultipleInvalid) else [error]
        if faults:
            raise vol.MultipleInvalid(faults)
        return checked


def section(*rules: SectionRule, **keys: Any) -> Section:
    """Return the check of a section.

    Args:
        rules: the rules between its keys.
        keys: by name, a section, or a pair of check and default.
    """
    return Section(rules, {name: one if isinstance(one, tuple) else (one, {}) for name, one in keys.items()})


def _needs(key: str, other: str) -> SectionRule:
    """Return the rule that `key` may be given only with `other`."""

    def faults(checked: Mapping[str, Any]) -> list[vol.Invalid]:
        if checked[key] is None or checked[other] is not None:
            return []
        return [vol.Invalid(f"must be given if {key} is given", path=[other])]

    return SectionRule(frozenset({key, other}), faults)


def _together(one: str, other: str) -> tuple[SectionRule, SectionRule]:
    """Return the rules that both keys must be given or none."""
    return _needs(one, other), _needs(other, one)


def _missing_terminal_credentials(terminals: Mapping[str, Any]) -> list[vol.Invalid]:
    known, admit = terminals["known"], terminals["admit"]
    if terminals["username"] is not None or terminals["password"] is not None or UNREADABLE in (known, admit):
        return []
    faults = [
        vol.Invalid(
            "has no username and password: give it its own, or give terminals.username and terminals.password",
            path=["known", sn],
        )
        for sn, own in known.items()
        if own is not UNREADABLE and own["password"] is None
    ]
    if admit == "any" or not known:
        faults.append(vol.Invalid("must be given, with username: terminals log in with them", path=["password"]))
    return faults


def _missing_web_login(web: Mapping[str, Any]) -> list[vol.Invalid]:
    if web["host"] in _LOOPBACK | {UNREADABLE} or web["username"] is not None or web["password"] is not None:
        return []
    if web["ingress"] is not None:
        # Home Assistant checks the logins; all other requests are refused.
        return []
    message = f"must be given, with password: other machines can reach {web['host']}"
    return [vol.Invalid(message, path=["username"])]


_TERMINAL_CREDENTIALS = SectionRule(
    frozenset({"username", "password", "admit", "known"}), _missing_terminal_credentials
)
"""Each terminal has credentials: its own, or those that all terminals share."""

_WEB_LOGIN = SectionRule(frozenset({"host", "username", "password", "ingress"}), _missing_web_login)
"""If other machines can reach the page, people must log in, unless Home Assistant checks their logins. Tokens do not
replace the login: the page needs an administrator."""

_PORT = whole_number(0, 65535)

KNOWN_TERMINAL = section(
    *_together("username", "password"),
    name=(Nullable(text), None),
    area=(Nullable(text), None),
    username=(Nullable(login_name), None),
    password=(Nullable(secret), None),
    key=(Nullable(secret), None),
    groups=(list_of(group_name, "group names"), []),
)
TOKEN = section(hash=(secret, vol.UNDEFINED), role=(one_of("admin", "operator"), vol.UNDEFINED))


def _is_token_name(name: str) -> bool:
    return bool(name.strip()) and len(name) <= 64 and name.isprintable()


_KNOWN_TERMINALS = NamedSections(KNOWN_TERMINAL, is_serial_number, "an SN has 1 to 64 letters, digits, _ and -")
_TOKENS = NamedSections(TOKEN, _is_token_name, "a token's name has 1 to 64 printable characters")


def configuration_schema(folder: Path) -> Section:
    """Return the schema of a configuration; relative paths in it start at `folder`."""
    file = file_below(folder)
    return section(
        mqtt=section(
            # A username without a password is allowed: some brokers expect a token there.
            _needs("password", "username"),
            host=(Nullable(host), None),
            port=(whole_number(1, 65535), 1883),
            username=(Nullable(text), None),
            password=(Nullable(secret), None),
            client_id=(text, "facebridge"),
            base_topic=(topic, "facebridge"),
            protocol=(one_of("5", "3.1.1"), "5"),
            tls=(
                Nullable(
                    section(
                        *_together("certificate", "key"),
                        ca=(Nullable(file), None),
                        certificate=(Nullable(file), None),
                        key=(Nullable(file), None),
                        verify=(true_or_false, True),
                    )
                ),
                None,
            ),
        ),
        homeassistant=section(
            discovery=(true_or_false, True),
            prefix=(topic, "homeassistant"),
            send_time=(true_or_false, True),
        ),
        terminals=section(
            *_together("username", "password"),
            _TERMINAL_CREDENTIALS,
            host=(host, "0.0.0.0"),  # noqa: S104  terminals connect from other machines
            port=(_PORT, 8765),
            path=(url_path, "/devs"),
            tls=(Nullable(section(certificate=(file, vol.UNDEFINED), key=(file, vol.UNDEFINED))), None),
            username=(Nullable(login_name), None),
            password=(Nullable(secret), None),
            admit=(one_of("known", "any"), "known"),
            # Below 5 s a normal pause of a terminal would end its connection; above an hour a lost one shows too late.
            idle_timeout=(number(5, 3600, "seconds"), 90),
            trusted_proxies=(list_of(network, "addresses"), []),
            forward_messages=(true_or_false, False),
            known=(_KNOWN_TERMINALS, {}),
        ),
        commands=section(deadline=(number(1, 60, "seconds"), 5)),
        persons=section(remove_expired=(Nullable(whole_number(0, 36500)), None)),
        photos=section(
            folders=(list_of(folder_below(folder), "folders"), []),
            max_bytes=(whole_number(10_000, 50_000_000), 10485760),
            size=(Nullable(picture_size), None),
        ),
        store=section(
            url=(store_url, "sqlite:///facebridge.db"),
            photo_key=(Nullable(photo_keys), None),
        ),
        audit=section(keep_days=(whole_number(1, 36500), 90)),
        web=section(
            *_together("username", "password"),
            _WEB_LOGIN,
            host=(host, "127.0.0.1"),
            port=(_PORT, 8099),
            url=(Nullable(web_url), None),
            username=(Nullable(login_name), None),
            password=(Nullable(secret), None),
            tokens=(_TOKENS, {}),
            trusted_proxies=(list_of(network, "addresses"), []),
            ingress=(Nullable(network), None),
        ),
        logging=section(
            level=(one_of("debug", "info", "warning", "error"), "info"),
            format=(one_of("text", "json"), "text"),
        ),
    )
