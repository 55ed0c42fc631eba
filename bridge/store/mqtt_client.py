"""The random end of the bridge's client ids at the broker."""

from sqlalchemy import Connection, insert, select

from bridge.store.database import Database
from bridge.store.tables import MQTT_CLIENT


async def stored_client_suffix(database: Database, new_suffix: str) -> str:
    """Return the stored suffix; store `new_suffix` first if there is none. Raises UnavailableError.

    It must stay the same: the broker keeps person changes for the session of the old client id.
    """
    stored = await database.read(read_client_suffix)
    if stored is None:
        # The instance lock keeps other bridges away meanwhile.
        await database.write(_store, new_suffix)
    return stored or new_suffix


def read_client_suffix(connection: Connection) -> str | None:
    """Return the stored suffix, None if there is none yet."""
    return connection.execute(select(MQTT_CLIENT.c.suffix)).scalar()


def _store(connection: Connection, suffix: str) -> None:
    connection.execute(insert(MQTT_CLIENT).values(suffix=suffix))
