"""Looks at a store from outside, beside a bridge that may be running on it."""

import os
from pathlib import Path

from sqlalchemy import make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine


async def check_store(url: str) -> str | None:
    """Return what keeps a store from being used, None for nothing; makes and changes nothing.

    Args:
        url: `sqlite:///FILE` or `postgresql://…`.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        return "store.url is not a URL"
    if parsed.get_backend_name() == "sqlite":
        file = Path(parsed.database or "")
        if not file.exists():
            folder = file.absolute().parent
            return None if os.access(folder, os.W_OK) else f"the folder {folder} is not there or may not be written to"
        if not os.access(file, os.R_OK | os.W_OK):
            return f"{file} may not be read and written"
        parsed = parsed.set(drivername="sqlite+aiosqlite")
    else:
        parsed = parsed.set(drivername="postgresql+asyncpg")
    try:
        engine = create_async_engine(parsed, hide_parameters=True)
    except ImportError:
        return "a PostgreSQL store needs the extra: pip install 'facebridge[postgres]'"
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 FROM alembic_version"))
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        return f"cannot be used ({type(cause).__name__})"
    finally:
        await engine.dispose()
    return None
