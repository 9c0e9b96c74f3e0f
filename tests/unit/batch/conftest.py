"""The store on both databases: the same tests run on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres_server import postgres_server

from seawall.batch.database import open_database
from seawall.batch.store import BatchStore


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    import psycopg

    server = request.getfixturevalue("postgres")
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")
    return str(server).replace("/postgres?", f"/{name}?")


@pytest.fixture
def store(address: str) -> Iterator[BatchStore]:
    store = BatchStore(open_database(address))
    yield store
    store.close()
