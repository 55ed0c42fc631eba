"""Pages of long lists: `limit` and `cursor` of the query, and the form of a page."""

import asyncio
import heapq
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from bridge.model.faults import InvalidError
from bridge.model.json_schema import JsonSchema, count_schema, nullable, output_schema, text
from bridge.web.routes import QueryParameter

DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000
"""Items on a page. A thousand persons are some 400 KB."""

_MAX_CURSOR_LENGTH = 2_048
"""Characters of a cursor: it can hold the longest name of a terminal, each character escaped."""

_ITEMS_AT_ONCE = 200
"""Items that are handled, in one or two milliseconds, before other tasks run: a press must not wait for thousands."""

_T = TypeVar("_T")
Key = tuple[str, ...]


def _parse_limit(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(MAX_LIMIT)) and 1 <= int(value) <= MAX_LIMIT):
        raise InvalidError.at("", f"must be a number from 1 to {MAX_LIMIT}")
    return int(value)


def encode_cursor(key: Key) -> str:
    """Return the cursor for the page after the item with this key."""
    return urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")


def _parse_cursor(value: str) -> Key:
    fault = InvalidError.at("", "is not a cursor of this list: leave it out for the first page")
    try:
        if len(value) > _MAX_CURSOR_LENGTH:
            raise fault
        key = orjson.loads(urlsafe_b64decode(value + "=" * (-len(value) % 4)))
    except ValueError:
        raise fault from None
    # PostgreSQL cannot store, nor compare with, a zero character.
    if not isinstance(key, list) or not all(isinstance(part, str) and "\0" not in part for part in key):
        raise fault
    return tuple(key)


LIMIT = QueryParameter(
    name="limit",
    schema={
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_LIMIT,
        "default": DEFAULT_LIMIT,
        "description": "the largest number of items on the page",
    },
    parse=_parse_limit,
    default=DEFAULT_LIMIT,
)


def cursor_parameter(parts: int) -> QueryParameter:
    """Return the parameter `cursor` of a list whose items have keys with so many parts."""

    def parse(value: str) -> Key:
        key = _parse_cursor(value)
        if len(key) != parts:
            raise InvalidError.at("", "is not a cursor of this list: leave it out for the first page")
        return key

    schema = text("the `next` of the page before; left out for the first page", longest=_MAX_CURSOR_LENGTH)
    return QueryParameter(name="cursor", schema=schema, parse=parse)


def page_schema(item: JsonSchema, title: str, description: str) -> JsonSchema:
    """Return the schema of a page."""
    return output_schema(
        {
            "items": {"type": "array", "items": item, "maxItems": MAX_LIMIT, "description": "the items of this page"},
            "next": nullable(text("the `cursor` of the next page; null on the last one")),
            "total": count_schema("the number of items on all pages"),
        },
        title=title,
        description=description,
    )


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    """Part of a list.

    Attributes:
        items: in their order.
        next: the key after which the next page begins; None if this is the last one.
        total: the number of items on all pages.
    """

    items: Sequence[_T]
    next: Key | None
    total: int

    async def as_json(self, item: Callable[[_T], Any]) -> dict[str, Any]:
        """Return the page, each item as `item` returns it; other tasks run meanwhile."""
        items = []
        for number, one in enumerate(self.items, start=1):
            items.append(item(one))
            if number % _ITEMS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return {
            "items": items,
            "next": None if self.next is None else encode_cursor(self.next),
            "total": self.total,
        }


def page_from(items: Sequence[_T], total: int, limit: int, key: Callable[[_T], Key]) -> Page[_T]:
    """Return a page from one item more than it may have, which shows whether there are more.

    Args:
        items: at most `limit` + 1 items in their order.
        total: the number of items on all pages.
        limit: the maximum number of items on the page.
        key: returns the key of an item.
    """
    shown = items[:limit]
    return Page(shown, key(shown[-1]) if len(items) > limit else None, total)


async def page_of(
    items: Iterable[_T],
    key: Callable[[_T], Key],
    after: Key | None,
    limit: int,
    matches: Callable[[_T], bool] = lambda _: True,
) -> Page[_T]:
    """Return a page of a list in memory; other tasks run meanwhile.

    Args:
        items: the list, in any order.
        key: returns the key of an item. The list is ordered by it, and no two items have the same one.
        after: the key after which the page begins; None for the first page.
        limit: the maximum number of items.
        matches: returns whether an item belongs to the list.
    """
    total = 0
    remaining: list[tuple[Key, _T]] = []
    for position, item in enumerate(items, start=1):
        if matches(item):
            total += 1
            item_key = key(item)
            if after is None or item_key > after:
                remaining.append((item_key, item))
        if position % _ITEMS_AT_ONCE == 0:
            await asyncio.sleep(0)
    found = heapq.nsmallest(limit + 1, remaining, key=lambda pair: pair[0])
    more = len(found) > limit
    return Page([item for _, item in found[:limit]], found[limit - 1][0] if more else None, total)
