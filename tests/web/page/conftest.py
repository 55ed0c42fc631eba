"""Fixtures of the page's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.web.page.page_system import PageBrowser, PageSystem, page_browser


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[PageSystem]:
    """A bridge with two known terminals."""
    async with PageSystem(tmp_path) as system:
        yield system


@pytest.fixture
async def browser() -> AsyncIterator[PageBrowser]:
    """A browser; a test fails if the browser reports an error."""
    async with page_browser() as browser:
        yield browser
        assert not browser.errors
