"""The schema of `config.yaml` (CONTRACT, section 3): every key, its default and what it may be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import voluptuous as vol

from bridge.config.checks import (
    Check,
    file_below,
    folder_below,
    group_name,
    host,
    list_of,
    network,
    nullable,
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
from bridge.config.rules import DOOR_CREDENTIALS, LOGIN_WHERE_OTHERS_REACH, SectionRule, needs, together
from bridge.model.names import is_serial_number

_PORT = whole_number(0, 65535)


def configuration_schema(folder: Path) -> "Section":
    """Return the schema of a configuration whose relative paths start at `folder`."""
    file = file_below(folder)
    return section(
        mqtt=section(
            # A username alone is right: some brokers take a token there.
            needs("password", "username"),
            host=(nullable(host), None),
            port=(whole_number(1, 65535), 1883),
            username=(nullable(text), None),
            password=(nullable(secret), None),
            client_id=(text, "facebridge"),
            base_topic=(topic, "facebridge"),
            protocol=(one_of("5", "3.1.1"), "5"),
            tls=(
                nullable(
                    section(
                        *together("certificate", "key"),
                        ca=(nullable(file), None),
                        certificate=(nullable(file), None),
                        key=(nullable(file), None),
                        verify=(true_or_false, True),
                    )
                ),
                None,
            ),
        ),
        homeassistant=section(
            discovery=(true_or_false, True),
            prefix=(topic, "homeassistant"),
        ),
        terminals=section(
            *together("username", "password"),
            DOOR_CREDENTIALS,
            host=(host, "0.0.0.0"),  # noqa: S104  the terminals are other machines
            port=(_PORT, 8765),
            path=(url_path, "/devs"),
            tls=(nullable(section(certificate=(file, vol.UNDEFINED), key=(file, vol.UNDEFINED))), None),
            username=(nullable(text), None),
            password=(nullable(secret), None),
            admit=(one_of("known", "any"), "known"),
            # Below 5 s a terminal's ordinary pause would count as its end; above an hour nobody would notice one.
            idle_timeout=(number(5, 3600, "seconds"), 90),
            trusted_proxies=(list_of(network, "addresses"), []),
            known=(_known_terminals, {}),
        ),
        commands=section(deadline=(number(1, 60, "seconds"), 5)),
        persons=section(remove_expired=(nullable(whole_number(0, 36500)), None)),
        photos=section(
            folders=(list_of(folder_below(folder), "folders"), []),
            max_bytes=(whole_number(10_000, 50_000_000), 10485760),
            size=(nullable(picture_size), None),
        ),
        store=section(
            url=(store_url, "sqlite:///facebridge.db"),
            photo_key=(nullable(photo_keys), None),
        ),
        audit=section(keep_days=(whole_number(1, 36500), 90)),
        web=section(
            *together("username", "password"),
            LOGIN_WHERE_OTHERS_REACH,
            host=(host, "127.0.0.1"),
            port=(_PORT, 8099),
            url=(nullable(web_url), None),
            username=(nullable(text), None),
            password=(nullable(secret), None),
            tokens=(_tokens, {}),
        ),
        logging=section(
            level=(one_of("debug", "info", "warning", "error"), "info"),
            format=(one_of("text", "json"), "text"),
        ),
    )


class Section:
    """A mapping of known keys.

    Attributes:
        keys: of each its check and its default, UNDEFINED for one that must be there.
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
        """Check a mapping; null stands for an empty one, as where every key below was commented out."""
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise vol.Invalid("must hold keys of its own, one a line below it")
        try:
            checked = self._schema(value)
            faults: list[vol.Invalid] = []
        except vol.MultipleInvalid as several:
            faults = several.errors
            checked = self._right_keys(value, {str(fault.path[0]) for fault in faults})
        for rule in self._rules:
            if rule.keys <= checked.keys():
                faults = faults + rule.broken(checked)
        if faults:
            raise vol.MultipleInvalid(faults)
        return checked

    def _right_keys(self, value: dict[str, Any], wrong: set[str]) -> dict[str, Any]:
        """Return what is right in a section that has a fault, for the rules: all that is wrong is told at once."""
        return {
            name: resolving(check)(value.get(name, default))
            for name, (check, default) in self.keys.items()
            if name not in wrong
        }


def section(*rules: SectionRule, **keys: Any) -> Section:
    """Build a section: of others, or of `key=(check, default)`; the rules hold between its keys."""
    return Section(rules, {name: one if isinstance(one, tuple) else (one, {}) for name, one in keys.items()})


KNOWN_TERMINAL = section(
    *together("username", "password"),
    name=(nullable(text), None),
    area=(nullable(text), None),
    username=(nullable(text), None),
    password=(nullable(secret), None),
    key=(nullable(secret), None),
    groups=(list_of(group_name, "group names"), []),
)
TOKEN = section(hash=(secret, vol.UNDEFINED), role=(one_of("admin", "operator"), vol.UNDEFINED))


def _known_terminals(value: Any) -> dict[str, Any]:
    return _named(value, KNOWN_TERMINAL, is_serial_number, "an SN has 1 to 64 letters, digits, _ and -")


def _tokens(value: Any) -> dict[str, Any]:
    return _named(value, TOKEN, _is_token_name, "a token's name has 1 to 64 printable characters")


def _is_token_name(name: str) -> bool:
    return bool(name.strip()) and len(name) <= 64 and name.isprintable()


def _named(value: Any, inner: Section, is_name: Callable[[str], bool], rule: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise vol.Invalid("must hold names, each with keys of its own")
    checked: dict[str, Any] = {}
    faults: list[vol.Invalid] = []
    for name, one in value.items():
        if not is_name(name):
            faults.append(vol.Invalid(rule, path=[name]))
        try:
            checked[name] = resolving(inner)(one)
        except vol.Invalid as error:
            error.prepend([name])
            faults += error.errors if isinstance(error, vol.MultipleInvalid) else [error]
    if faults:
        raise vol.MultipleInvalid(faults)
    return checked
