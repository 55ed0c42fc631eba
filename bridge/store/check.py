"""Looks at a store from outside, beside a bridge that may be running on it."""

import asyncio
import os
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from bridge.store.database import create_engine, parse_url
from bridge.store.errors import StoreUrlError


async def check_store(url: str) -> str | None:
    """Return what keeps a store from being used, None for nothing; makes and changes nothing.

    Args:
        url: `sqlite:///FILE` or `postgresql://…`.
    """
    try:
        parsed = parse_url(url)
        engine = create_engine(parsed)
    except StoreUrlError as error:
        return str(error)
    if parsed.get_backend_name() == "sqlite":
        problem, exists = await asyncio.to_thread(_check_file, parsed.database or "")
        if problem is not None or not exists:
            return problem
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 FROM alembic_version"))
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        return f"cannot be used ({type(cause).__name__})"
    finally:
        await engine.dispose()
    return None


def _check_file(name: str) -> tuple[str | None, bool]:
    """Return what keeps a file from being used, and whether there is one yet."""
    file = Path(name).absolute()
    if not file.exists():
        writable = os.access(file.parent, os.W_OK)
        return (None if writable else f"the folder {file.parent} is not there or may not be written to"), False
    usable = os.access(file, os.R_OK | os.W_OK)
    return (None if usable else f"{file} may not be read and written"), True
