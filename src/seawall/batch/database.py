"""The two databases that can hold the lane's store, behind one small interface: SQLite in a file, or PostgreSQL.

Both are spoken to in the same SQL, with `?` for a value. A transaction is durable when `write` has returned: SQLite
syncs its write-ahead log on every commit, PostgreSQL as it is set up. One connection, used by one thread at a time.
Forbidden here: what the tables mean.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TypeVar

from seawall.errors import InputError, SourceError

BUSY_S = 30.0
"""How long SQLite waits for another process that writes."""
LAZY_S = 3.0
SqlValue = str | int | float | bytes | None
SqlRow = tuple[Any, ...]
T = TypeVar("T")


class Speaker(Protocol):
    """A connection inside a transaction."""

    def all(self, sql: str, values: Sequence[SqlValue] = ()) -> list[SqlRow]:
        """The rows of one statement; none where it gives none."""


class Database(Protocol):
    """See the module."""

    bytes_type: str
    """What a column of bytes is called."""

    def write(self, work: Callable[[Speaker], T]) -> T:
        """What `work` returns, when everything it did is durable. It may be called again, where a connection broke:
        done twice must be as done once."""

    def read(self, sql: str, values: Sequence[SqlValue] = ()) -> list[SqlRow]:
        """The rows of one statement that changes nothing."""

    def columns(self, table: str) -> frozenset[str]:
        """The names of a table's columns."""

    def tidy(self) -> None:
        """Gives space of what was deleted back, some at a time."""

    def close(self) -> None: ...


class SqliteDatabase:
    """A file on this machine's disk, in WAL mode. Network file systems cannot hold it."""

    bytes_type = "BLOB"

    def __init__(self, path: Path, lazy_s: float = 0.0) -> None:
        """`lazy_s`: transactions of so many seconds are committed together; only a proof wants that."""
        self._lazy_s, self._began = lazy_s, 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA cache_size=-8192")
        except (OSError, sqlite3.Error) as e:
            raise InputError(
                f"the batch store {path} cannot be opened: {e}.", "Name another --store."
            ) from None

    def all(self, sql: str, values: Sequence[SqlValue] = ()) -> list[SqlRow]:
        return self._db.execute(sql, values).fetchall()

    def write(self, work: Callable[[Speaker], T]) -> T:
        with _named(), self._transaction():
            return work(self)

    def read(self, sql: str, values: Sequence[SqlValue] = ()) -> list[SqlRow]:
        with _named():
            return self.all(sql, values)

    def columns(self, table: str) -> frozenset[str]:
        return frozenset(str(row[1]) for row in self.all(f"PRAGMA table_info({table})"))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._lazy_s:
            yield from self._lazily()
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def tidy(self) -> None:
        """Returns pages of deleted rows to the file system, some at a time."""
        self._db.execute("PRAGMA incremental_vacuum(4096)").fetchall()

    def _lazily(self) -> Iterator[None]:
        """A transaction that others follow in, before any of them is durable."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
            self._began = monotonic()
        yield
        if monotonic() - self._began > self._lazy_s:
            self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


@contextmanager
def _named() -> Iterator[None]:
    """What fails in SQLite (a full disk, a lock that is held for long) is an error of ours."""
    try:
        yield
    except sqlite3.Error as e:
        raise SourceError(f"the batch store failed: {e}.", "Is its disk full?") from None


class PostgresDatabase:
    """A PostgreSQL server that several gateways share. A connection that broke is made anew."""

    bytes_type = "BYTEA"

    def __init__(self, address: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise InputError(
                "a store at postgresql:// needs psycopg.", "Install it: pip install 'seawall[postgres]'."
            ) from None
        self._psycopg = psycopg
        self._address = address
        self._db: psycopg.Connection[SqlRow] | None = None
        self._open()

    def _open(self) -> Any:
        if self._db is None or self._db.closed:
            try:
                self._db = self._psycopg.connect(self._address, autocommit=True, connect_timeout=10)
            except self._psycopg.Error as e:
                raise SourceError(
                    f"the batch store cannot be reached: {str(e).strip()}.",
                    "Is PostgreSQL up, and the address right?",
                ) from None
        return self._db

    def all(self, sql: str, values: Sequence[SqlValue] = ()) -> list[SqlRow]:
        cursor = self._open().execute(sql.replace("?", "%s"), values)
        return cursor.fetchall() if cursor.description is not None else []

    def write(self, work: Callable[[Speaker], T]) -> T:
        return self._twice(lambda: self._write(work))

    def _write(self, work: Callable[[Speaker], T]) -> T:
        with self._open().transaction():
            return work(self)

    def read(self, sql: str, values: Sequence[SqlValue] = ()) -> list[SqlRow]:
        return self._twice(lambda: self.all(sql, values))

    def _twice(self, work: Callable[[], T]) -> T:
        """Once more over a new connection, where the one that was open turns out to be gone."""
        try:
            return work()
        except self._psycopg.OperationalError:
            self.close()
            try:
                return work()
            except self._psycopg.Error as e:
                raise SourceError(f"the batch store failed: {str(e).strip()}.") from None
        except self._psycopg.Error as e:
            raise SourceError(f"the batch store failed: {str(e).strip()}.") from None

    def columns(self, table: str) -> frozenset[str]:
        sql = "SELECT attname FROM pg_attribute WHERE attrelid = ?::regclass AND attnum > 0 AND NOT attisdropped"
        return frozenset(str(row[0]) for row in self.all(sql, (table,)))

    def tidy(self) -> None:
        """PostgreSQL does so by itself."""

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def open_database(address: str, lazy: bool = False) -> Database:
    """`postgresql://USER@HOST/NAME`, or the path of a file. InputError for another scheme."""
    scheme = address.partition("://")[0] if "://" in address else ""
    if scheme in ("postgresql", "postgres"):
        return PostgresDatabase(address)
    if scheme:
        raise InputError(
            f"--store {scheme}://...: no such store.", "Use postgresql://USER@HOST/NAME or a file's path."
        )
    return SqliteDatabase(Path(address), LAZY_S if lazy else 0.0)


def marks(rows: int, columns: int) -> str:
    """`(?,?),(?,?)`: places for so many rows of values."""
    return ",".join(["(" + ",".join("?" * columns) + ")"] * rows)


def flat(rows: Iterable[Sequence[SqlValue]]) -> list[SqlValue]:
    """The values of several rows, one behind the other."""
    return [value for row in rows for value in row]
