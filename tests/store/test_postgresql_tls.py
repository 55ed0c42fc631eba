"""A PostgreSQL store over TLS, with the server verified as docs/operation.md describes."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import trustme

from bridge.model.faults import UnavailableError
from bridge.store.database import Database
from bridge.store.instance_lock import instance_lock
from tests.support.postgresql import PostgreSQL, postgresql_server

pytestmark = pytest.mark.slow

AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql_server(AUTHORITY.issue_cert("localhost")) as server:
        yield server


def authority_file(authority: trustme.CA, folder: Path) -> Path:
    file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


async def test_a_store_is_opened_over_verified_tls(server: PostgreSQL, tmp_path: Path) -> None:
    plain = await server.new_url()
    root = authority_file(AUTHORITY, tmp_path)
    url = f"{plain.replace('127.0.0.1', 'localhost')}?sslmode=verify-full&sslrootcert={root}"
    async with instance_lock(url):
        database = await Database.open(url)
        with psycopg.connect(plain) as connection:
            encrypted = connection.execute(
                "SELECT bool_and(ssl.ssl), count(*) FROM pg_stat_ssl AS ssl JOIN pg_stat_activity USING (pid)"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
        assert encrypted is not None
        # The store and the instance lock.
        assert encrypted[0] is True
        assert encrypted[1] >= 2
        await database.close()


@pytest.mark.parametrize(
    ("authority", "host"), [(trustme.CA(), "localhost"), (AUTHORITY, "127.0.0.1")], ids=["authority", "host name"]
)
async def test_another_server_is_refused(server: PostgreSQL, tmp_path: Path, authority: trustme.CA, host: str) -> None:
    url = (await server.new_url()).replace("127.0.0.1", host)
    root = authority_file(authority, tmp_path)
    with pytest.raises(UnavailableError) as caught:
        await Database.open(f"{url}?sslmode=verify-full&sslrootcert={root}")
    assert "secret" not in str(caught.value)
    # Without the verification the server accepts the same client.
    database = await Database.open(f"{url}?sslmode=require")
    await database.close()
