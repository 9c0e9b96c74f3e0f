"""What the offline lane keeps of files, batches and lines, as plain data, and the JSON that OpenAI documents for it.

Forbidden here: reading or writing anything. Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

BatchStatus = Literal[
    "validating",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "cancelling",
    "cancelled",
    "expired",
]
OVER: Final = frozenset({"completed", "failed", "cancelled", "expired"})
"""Statuses that a batch never leaves."""
ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
PURPOSES: Final = ("batch", "batch_output")
ERRORS_TOLD: Final = 100
"""Errors of an input file that are listed one by one."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file of a tenant. Its content lies with the blobs, under its id."""

    id: str
    tenant: str
    name: str
    purpose: str
    size: int
    """Bytes."""
    created: int
    expires: int | None = None

    def as_json(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": self.created,
            "expires_at": self.expires,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass(frozen=True, kw_only=True)
class LineError:
    """What is wrong with one line of an input file; line 0: with the file."""

    code: str
    message: str
    param: str | None = None
    line: int = 0

    def as_json(self) -> dict[str, Any]:
        """One of the `errors.data` of OpenAI's batch object."""
        return {
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "line": self.line or None,
        }


@dataclass(frozen=True, kw_only=True)
class BatchRecord:
    """One batch as the store knows it."""

    id: str
    tenant: str
    endpoint: str
    input_file: str
    window_s: int
    """Seconds from its creation in which it is to be done."""
    window: str
    """The same in its owner's words, such as `24h`."""
    created: int
    status: BatchStatus = "validating"
    metadata: dict[str, str] = field(default_factory=dict)
    output_lives_s: int | None = None
    """Seconds after its creation that an output file is kept; None: as long as the lane's retention says."""
    total: int = 0
    completed: int = 0
    failed: int = 0
    twice: int = 0
    """Lines that may have run more than once, for what ran them was killed. Each has one result all the same."""
    tokens_in: int = 0
    tokens_out: int = 0
    busy_s: float = 0.0
    """Seconds that replicas were at work on its lines, added up."""
    units: float = 0.0
    """The work of all its lines (`decide.batch.pace.units`); 0: it was not reckoned."""
    units_done: float = 0.0
    """The same of those that have a result."""
    stamps: dict[str, int] = field(default_factory=dict)
    """Status -> when the batch came to it."""
    output_file: str | None = None
    error_file: str | None = None
    errors: tuple[LineError, ...] = ()
    model: str = ""
    """The model of its first line."""
    ends_as: BatchStatus = "completed"
    """What it will be when its files are written."""

    @property
    def units_left(self) -> float:
        """The work of the lines that have no result."""
        lines = self.total - self.completed - self.failed
        return max(float(lines), self.units - self.units_done) if lines > 0 else 0.0

    @property
    def deadline(self) -> int:
        """When its window ends."""
        return self.created + self.window_s

    @property
    def over(self) -> bool:
        """Nothing of it changes any more."""
        return self.status in OVER

    def as_json(self, more: dict[str, Any] | None = None) -> dict[str, Any]:
        """OpenAI's batch object, with `more` beside it."""
        at = self.stamps.get
        errors = [e.as_json() for e in self.errors]
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model or None,
            "errors": {"object": "list", "data": errors} if errors else None,
            "input_file_id": self.input_file,
            "completion_window": self.window,
            "status": self.status,
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "created_at": self.created,
            "in_progress_at": at("in_progress"),
            "expires_at": self.deadline,
            "finalizing_at": at("finalizing"),
            "completed_at": at("completed"),
            "failed_at": at("failed"),
            "expired_at": at("expired"),
            "cancelling_at": at("cancelling"),
            "cancelled_at": at("cancelled"),
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "usage": {
                "input_tokens": self.tokens_in,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": self.tokens_out,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": self.tokens_in + self.tokens_out,
            },
            "metadata": self.metadata or None,
            **(more or {}),
        }


class LineResult(NamedTuple):
    """What became of one line: a line of the output file, or of the error file."""

    line: int
    """The number of the line in the input file, from 1."""
    good: bool
    """True: for the output file; False: for the file of errors."""
    text: bytes
    """JSON without a line's end."""
    tokens_in: int = 0
    tokens_out: int = 0
    busy_s: float = 0.0
    units: float = 0.0
    """The line's work, as it was reckoned before it was sent."""
