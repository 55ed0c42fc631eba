"""Reading stored JSON that another version of the bridge wrote."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any


def split_stored(kind: type, stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate the stored fields that a dataclass has from those that it does not know.

    A newer version may have written the store, for example before an upgrade was undone. Its additional fields must
    neither stop this version nor be lost when this version writes the value again.

    Args:
        kind: the dataclass. An attribute `unknown` is not a stored field.
        stored: the stored JSON object.

    Returns:
        The known fields and the unknown fields. A known field that is not stored is in neither of them, so the
        dataclass sets its default.
    """
    names = _stored_names(kind)
    if stored.keys() <= names:
        return dict(stored), {}
    known = {name: value for name, value in stored.items() if name in names}
    return known, {name: value for name, value in stored.items() if name not in names}


@cache
def _stored_names(kind: type) -> frozenset[str]:
    return frozenset(one.name for one in fields(kind)) - {"unknown"}
