"""What the lane must never lose: files, batches, and one result per line. All of it in one database.

The promise of exactly once is kept here, by three rules. What is about to be sent is noted first (`begin`), so that
after a kill it is known what may run twice. A result is durable before it is counted, for both happen in one
transaction (`put`). And a line has one result, the first that came, for (batch, line) is the key of its table. Calls
block, and may be repeated. Forbidden here: files' contents, the network, clocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from seawall.batch.database import Database, Speaker, SqlRow, SqlValue, flat, marks
from seawall.batch.lines import Checked
from seawall.batch.words import OVER, BatchRecord, BatchStatus, LineError, LineResult, StoredFile

StoreQuery = Callable[[str, Sequence[SqlValue]], list[SqlRow]]
CHUNK: Final = 200
"""Rows of one statement."""
_FILE: Final = "id, tenant, name, purpose, size, created, expires"
_BATCH: Final = (
    "id, tenant, endpoint, input_file, window_s, window_text, created, status, metadata, output_lives_s, total, "
    "completed, failed, twice, tokens_in, tokens_out, busy_s, stamps, output_file, error_file, errors, model, ends_as, "
    "units, units_done"
)
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS files (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, "
    "purpose TEXT NOT NULL, size BIGINT NOT NULL, created BIGINT NOT NULL, expires BIGINT)",
    "CREATE INDEX IF NOT EXISTS files_of ON files (tenant, created, id)",
    "CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, endpoint TEXT NOT NULL, "
    "input_file TEXT NOT NULL, window_s BIGINT NOT NULL, window_text TEXT NOT NULL, created BIGINT NOT NULL, "
    "status TEXT NOT NULL, metadata TEXT NOT NULL, output_lives_s BIGINT, total BIGINT NOT NULL, "
    "completed BIGINT NOT NULL, failed BIGINT NOT NULL, twice BIGINT NOT NULL, tokens_in BIGINT NOT NULL, "
    "tokens_out BIGINT NOT NULL, busy_s DOUBLE PRECISION NOT NULL, stamps TEXT NOT NULL, output_file TEXT, "
    "error_file TEXT, errors TEXT NOT NULL, model TEXT NOT NULL, ends_as TEXT NOT NULL, again_key TEXT, owner TEXT, "
    "owner_until DOUBLE PRECISION NOT NULL DEFAULT 0, units DOUBLE PRECISION NOT NULL DEFAULT 0, "
    "units_done DOUBLE PRECISION NOT NULL DEFAULT 0, ended DOUBLE PRECISION NOT NULL DEFAULT 0)",
    "CREATE INDEX IF NOT EXISTS batches_of ON batches (tenant, created, id)",
    "CREATE INDEX IF NOT EXISTS batches_by_status ON batches (status)",
    "CREATE UNIQUE INDEX IF NOT EXISTS batches_again ON batches (tenant, again_key)",
    "CREATE TABLE IF NOT EXISTS begun (batch TEXT NOT NULL, line BIGINT NOT NULL, PRIMARY KEY (batch, line))",
    "CREATE TABLE IF NOT EXISTS results (batch TEXT NOT NULL, line BIGINT NOT NULL, good BIGINT NOT NULL, "
    "body BYTES NOT NULL, PRIMARY KEY (batch, line))",
)

_LATER: Final = ("units", "units_done", "ended")
"""Columns of `batches` that a store of an earlier release lacks."""


@dataclass(frozen=True)
class TenantHolding:
    """What a tenant has here."""

    files: int
    size: int
    """Bytes of all its files."""
    batches: int
    """That are not over."""
    lines: int
    """Lines of those batches without a result yet."""


class BatchStore:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self.database = database
        database.write(self._create)

    def _create(self, db: Speaker) -> None:
        for statement in _TABLES:
            db.all(statement.replace("BYTES", self.database.bytes_type))
        for column in _LATER:
            if column not in self.database.columns("batches"):
                db.all(f"ALTER TABLE batches ADD COLUMN {column} DOUBLE PRECISION NOT NULL DEFAULT 0")

    def close(self) -> None:
        self.database.close()

    # -- files

    def add_file(self, file: StoredFile, most: int | None = None, space: int | None = None) -> bool:
        """From now on the file is there; its content must be already. False, and it is not: its tenant would have more
        than `most` files, or more than `space` bytes."""

        def work(db: Speaker) -> bool:
            if most is not None or space is not None:
                held = _held(db.all, file.tenant)
                if held[0] + 1 > (most or math.inf) or held[1] + file.size > (space or math.inf):
                    return False
            _add_file(db, file)
            return True

        return self.database.write(work)

    def file(self, file: str) -> StoredFile | None:
        rows = self.database.read(f"SELECT {_FILE} FROM files WHERE id = ?", (file,))
        return _file(rows[0]) if rows else None

    def files(
        self, tenant: str, purpose: str | None, after: StoredFile | None, limit: int, newest_first: bool
    ) -> list[StoredFile]:
        """A page of a tenant's files, behind `after`."""
        where, values = _behind(tenant, after, newest_first)
        if purpose is not None:
            where, values = where + " AND purpose = ?", [*values, purpose]
        way = "DESC" if newest_first else "ASC"
        sql = f"SELECT {_FILE} FROM files WHERE {where} ORDER BY created {way}, id {way} LIMIT ?"
        return [_file(row) for row in self.database.read(sql, [*values, limit])]

    def forget_file(self, file: str) -> str | None:
        """None, and the file is gone; or the batch that still needs it."""

        def work(db: Speaker) -> str | None:
            wants = db.all(
                f"SELECT id FROM batches WHERE input_file = ? AND status NOT IN {_over()} LIMIT 1", (file,)
            )
            if wants:
                return str(wants[0][0])
            db.all("DELETE FROM files WHERE id = ?", (file,))
            return None

        return self.database.write(work)

    def expired_files(self, now: float) -> list[StoredFile]:
        """Files whose time is over and which no running batch reads."""
        sql = (
            f"SELECT {_FILE} FROM files WHERE expires IS NOT NULL AND expires <= ? AND id NOT IN "
            f"(SELECT input_file FROM batches WHERE status NOT IN {_over()}) LIMIT 1000"
        )
        return [_file(row) for row in self.database.read(sql, (int(now),))]

    def holding(self, tenant: str) -> TenantHolding:
        """What counts against the limits of a tenant."""
        files, size = _held(self.database.read, tenant)
        batches, lines = _running(self.database.read, tenant)
        return TenantHolding(files, size, batches, lines)

    # -- batches

    def add_batch(
        self,
        batch: BatchRecord,
        again_key: str | None = None,
        owner: str | None = None,
        until: float = 0.0,
        most: int | None = None,
    ) -> BatchRecord | None:
        """The new batch, `owner`'s until then, or the one that was made with the same key before. None: its tenant has
        `most` batches that are not over."""

        def work(db: Speaker) -> list[SqlRow]:
            sql = f"SELECT {_BATCH} FROM batches WHERE id = ? OR (tenant = ? AND again_key = ?)"
            before = db.all(sql, (batch.id, batch.tenant, again_key))
            if before or (most is not None and _running(db.all, batch.tenant)[0] >= most):
                return before
            values: list[SqlValue] = [*_values(batch), again_key, owner, until]
            db.all(
                f"INSERT INTO batches ({_BATCH}, again_key, owner, owner_until) VALUES {marks(1, len(values))} "
                "ON CONFLICT DO NOTHING",
                values,
            )
            return db.all(sql, (batch.id, batch.tenant, again_key))

        rows = self.database.write(work)
        return _batch(rows[0]) if rows else None

    def batch(self, batch: str) -> BatchRecord | None:
        rows = self.database.read(f"SELECT {_BATCH} FROM batches WHERE id = ?", (batch,))
        return _batch(rows[0]) if rows else None

    def batches(self, tenant: str, after: BatchRecord | None, limit: int) -> list[BatchRecord]:
        """A page of a tenant's batches, the newest first, behind `after`."""
        where, values = _behind(tenant, after, True)
        sql = f"SELECT {_BATCH} FROM batches WHERE {where} ORDER BY created DESC, id DESC LIMIT ?"
        return [_batch(row) for row in self.database.read(sql, [*values, limit])]

    def unfinished(self) -> list[BatchRecord]:
        """All batches that are not over."""
        rows = self.database.read(
            f"SELECT {_BATCH} FROM batches WHERE status NOT IN {_over()} ORDER BY created, id"
        )
        return [_batch(row) for row in rows]

    def move(
        self, batch: str, before: Iterable[BatchStatus], status: BatchStatus, now: float, **columns: SqlValue
    ) -> BatchRecord | None:
        """The batch with its new status and `columns`; None: it was in none of the statuses `before`, and is as it
        was."""
        moved = self.database.write(lambda db: _move(db, batch, list(before), status, now, columns))
        return self.batch(batch) if moved else None

    def start(self, batch: str, found: Checked, now: float) -> BatchRecord | None:
        """The batch, whose input was found right, in progress."""
        model = next(iter(found.models))
        return self.move(
            batch, ["validating"], "in_progress", now, total=found.lines, model=model, units=found.units
        )

    def failed_input(self, batch: str, errors: Sequence[LineError], now: float) -> BatchRecord | None:
        """The input file cannot be worked on, and why."""
        told = _text([msgspec.to_builtins(e) for e in errors])
        return self.move(batch, ["validating"], "failed", now, errors=told)

    def give_up(self, batch: str, error: LineError, now: float) -> BatchRecord | None:
        """The batch, which will be failed when its files are written. None: it does not run."""
        told = _text([msgspec.to_builtins(error)])
        return self.move(batch, ["in_progress"], "finalizing", now, errors=told, ends_as="failed")

    def drop_batch(self, batch: str) -> None:
        """A batch that nothing was run of is as if it had never been made."""
        self.database.write(lambda db: db.all("DELETE FROM batches WHERE id = ?", (batch,)))

    def old_batches(self, before: float) -> list[BatchRecord]:
        """Batches that were over before then. Of those that an earlier release ended, the creation counts."""
        sql = (
            f"SELECT {_BATCH} FROM batches WHERE status IN {_over()} "
            "AND CASE WHEN ended > 0 THEN ended ELSE created END < ? LIMIT 1000"
        )
        return [_batch(row) for row in self.database.read(sql, (int(before),))]

    # -- who works on what

    def take(self, owner: str, now: float, until: float) -> list[BatchRecord]:
        """The batches that are not over and are `owner`'s from now on, until then: those that it had, and those whose
        owner has not been heard of in time."""

        def work(db: Speaker) -> list[SqlRow]:
            db.all(
                "UPDATE batches SET owner = ?, owner_until = ? "
                f"WHERE status NOT IN {_over()} AND (owner IS NULL OR owner = ? OR owner_until < ?)",
                (owner, until, owner, now),
            )
            return db.all(
                f"SELECT {_BATCH} FROM batches WHERE owner = ? AND status NOT IN {_over()} ORDER BY created, id",
                (owner,),
            )

        return [_batch(row) for row in self.database.write(work)]

    def let_go(self, owner: str) -> None:
        """Others may take what was `owner`'s."""
        self.database.write(
            lambda db: db.all("UPDATE batches SET owner = NULL, owner_until = 0 WHERE owner = ?", (owner,))
        )

    # -- lines

    def begin(self, batch: str, owner: str, lines: Sequence[int]) -> bool:
        """These lines are about to be sent. False: the batch is not `owner`'s any more, or nothing of it is to run."""

        def work(db: Speaker) -> bool:
            if not _works(db, batch, owner):
                return False
            for some in _chunks(lines):
                values = flat((batch, line) for line in some)
                db.all(
                    f"INSERT INTO begun (batch, line) VALUES {marks(len(some), 2)} ON CONFLICT DO NOTHING",
                    values,
                )
            return True

        return self.database.write(work)

    def put(self, batch: str, owner: str, results: Sequence[LineResult]) -> int:
        """How many of these results are new. They are durable, and counted; of those that came before, nothing changes.
        What comes from one that was taken for dead, and whose batch is another's, is dropped."""

        def work(db: Speaker) -> int:
            if not _works(db, batch, owner):
                return 0
            fresh: set[int] = set()
            for some in _chunks(results):
                values = flat((batch, r.line, int(r.good), r.text) for r in some)
                rows = db.all(
                    f"INSERT INTO results (batch, line, good, body) VALUES {marks(len(some), 4)} "
                    "ON CONFLICT DO NOTHING RETURNING line",
                    values,
                )
                fresh |= {int(row[0]) for row in rows}
                places = ",".join("?" * len(some))
                db.all(
                    f"DELETE FROM begun WHERE batch = ? AND line IN ({places})",
                    [batch, *(r.line for r in some)],
                )
            new = {r.line: r for r in results if r.line in fresh}.values()
            good = sum(r.good for r in new)
            db.all(
                "UPDATE batches SET completed = completed + ?, failed = failed + ?, tokens_in = tokens_in + ?, "
                "tokens_out = tokens_out + ?, busy_s = busy_s + ?, units_done = units_done + ? WHERE id = ?",
                (good, len(new) - good, sum(r.tokens_in for r in new), sum(r.tokens_out for r in new),
                 sum(r.busy_s for r in new), sum(r.units for r in new), batch),
            )  # fmt: skip
            return len(new)

        return self.database.write(work)

    def done(self, batch: str, first: int, last: int) -> set[int]:
        """Lines from `first` to `last` that have a result."""
        sql = "SELECT line FROM results WHERE batch = ? AND line BETWEEN ? AND ?"
        return {int(row[0]) for row in self.database.read(sql, (batch, first, last))}

    def orphans(self, batch: str) -> int:
        """How many lines had begun and have no result: they run again, and are counted as such."""

        def work(db: Speaker) -> int:
            count = int(db.all("SELECT COUNT(*) FROM begun WHERE batch = ?", (batch,))[0][0])
            if count:
                db.all("DELETE FROM begun WHERE batch = ?", (batch,))
                db.all("UPDATE batches SET twice = twice + ? WHERE id = ?", (count, batch))
            return count

        return self.database.write(work)

    def ran_again(self, batch: str, lines: int) -> None:
        """Counts lines that were sent once more, when nobody knows whether the first time had been for nothing."""
        self.database.write(
            lambda db: db.all("UPDATE batches SET twice = twice + ? WHERE id = ?", (lines, batch))
        )

    def results(self, batch: str) -> Iterator[tuple[int, bool, bytes]]:
        """(line, good, text) of all results, in the order of lines, a chunk at a time."""
        last = 0
        while True:
            rows = self.database.read(
                "SELECT line, good, body FROM results WHERE batch = ? AND line > ? ORDER BY line LIMIT ?",
                (batch, last, CHUNK),
            )
            if not rows:
                return
            for line, good, body in rows:
                yield int(line), bool(good), bytes(body)
            last = int(rows[-1][0])

    def finish(
        self,
        batch: str,
        status: BatchStatus,
        now: float,
        output: StoredFile | None,
        errors: StoredFile | None,
    ) -> BatchRecord | None:
        """The batch with its last status and its files, which are whole and on disk: they appear at once. None: it was
        over before."""

        columns: dict[str, SqlValue] = {
            "output_file": output.id if output else None,
            "error_file": errors.id if errors else None,
        }

        def work(db: Speaker) -> bool:
            moved = _move(db, batch, ["finalizing", "cancelling"], status, now, columns)
            for file in (output, errors):
                if moved and file is not None:
                    _add_file(db, file)
            return moved

        return self.batch(batch) if self.database.write(work) else None

    def sweep_lines(self, most: int = 5000) -> int:
        """How many rows of batches that are over were removed, at most `most`: their files have them."""

        def work(db: Speaker) -> int:
            count = 0
            for table in ("results", "begun"):
                over = db.all(
                    f"SELECT DISTINCT batch FROM {table} WHERE batch NOT IN "
                    f"(SELECT id FROM batches WHERE status NOT IN {_over()}) LIMIT 1"
                )
                for (batch,) in over:
                    gone = db.all(
                        f"DELETE FROM {table} WHERE batch = ? AND line IN "
                        f"(SELECT line FROM {table} WHERE batch = ? ORDER BY line LIMIT ?) RETURNING line",
                        (batch, batch, most),
                    )
                    count += len(gone)
            return count

        return self.database.write(work)


def _works(db: Speaker, batch: str, owner: str) -> bool:
    """Lines of the batch may begin and end, and they are `owner`'s."""
    rows = db.all("SELECT status FROM batches WHERE id = ? AND owner = ?", (batch, owner))
    return bool(rows) and rows[0][0] in ("in_progress", "cancelling")


def _move(
    db: Speaker,
    batch: str,
    before: Sequence[str],
    status: BatchStatus,
    now: float,
    columns: Mapping[str, SqlValue],
) -> bool:
    rows = db.all("SELECT stamps FROM batches WHERE id = ?", (batch,))
    if not rows:
        return False
    stamps = msgspec.json.decode(rows[0][0])
    stamps.setdefault(status, int(now))
    sets = ", ".join(f"{name} = ?" for name in ("status", "stamps", "ended", *columns))
    ended = now if status in OVER else 0.0
    values: list[SqlValue] = [status, _text(stamps), ended, *columns.values(), batch, *before]
    sql = f"UPDATE batches SET {sets} WHERE id = ? AND status IN ({','.join('?' * len(before))}) RETURNING id"
    return bool(db.all(sql, values))


def _held(ask: StoreQuery, tenant: str) -> tuple[int, int]:
    """Files of a tenant, and their bytes."""
    rows = ask("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM files WHERE tenant = ?", (tenant,))
    return int(rows[0][0]), int(rows[0][1])


def _running(ask: StoreQuery, tenant: str) -> tuple[int, int]:
    """Batches of a tenant that are not over, and their lines without a result."""
    rows = ask(
        "SELECT COUNT(*), COALESCE(SUM(total - completed - failed), 0) FROM batches "
        f"WHERE tenant = ? AND status NOT IN {_over()}",
        (tenant,),
    )
    return int(rows[0][0]), int(rows[0][1])


def _over() -> str:
    return "(" + ",".join(f"'{status}'" for status in sorted(OVER)) + ")"


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for at in range(0, len(rows), CHUNK):
        yield rows[at : at + CHUNK]


def _behind(
    tenant: str, after: StoredFile | BatchRecord | None, newest_first: bool
) -> tuple[str, list[SqlValue]]:
    """What a page's rows fulfil: they are of `tenant`, and come behind `after`."""
    if after is None:
        return "tenant = ?", [tenant]
    sign = "<" if newest_first else ">"
    where = f"tenant = ? AND (created {sign} ? OR (created = ? AND id {sign} ?))"
    return where, [tenant, after.created, after.created, after.id]


def _add_file(db: Speaker, file: StoredFile) -> None:
    values = (file.id, file.tenant, file.name, file.purpose, file.size, file.created, file.expires)
    db.all(f"INSERT INTO files ({_FILE}) VALUES {marks(1, 7)} ON CONFLICT DO NOTHING", values)


def _file(row: SqlRow) -> StoredFile:
    names = ("id", "tenant", "name", "purpose", "size", "created", "expires")
    return StoredFile(**dict(zip(names, row, strict=True)))


def _values(b: BatchRecord) -> list[SqlValue]:
    errors = _text([msgspec.to_builtins(e) for e in b.errors])
    return [
        b.id, b.tenant, b.endpoint, b.input_file, b.window_s, b.window, b.created, b.status, _text(b.metadata),
        b.output_lives_s, b.total, b.completed, b.failed, b.twice, b.tokens_in, b.tokens_out, b.busy_s,
        _text(b.stamps), b.output_file, b.error_file, errors, b.model, b.ends_as, b.units, b.units_done,
    ]  # fmt: skip


def _batch(row: SqlRow) -> BatchRecord:
    names = [n.strip() for n in _BATCH.split(",")]
    found = dict(zip(names, row, strict=True))
    found["window"] = found.pop("window_text")
    for name, kind in (
        ("metadata", dict[str, str]),
        ("stamps", dict[str, int]),
        ("errors", tuple[LineError, ...]),
    ):
        found[name] = msgspec.json.decode(found[name], type=kind)
    return BatchRecord(**found)
