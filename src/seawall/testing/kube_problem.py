"""The API double's answers that are not success, in the form in which a real server gives them."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


class ApiProblem(Exception):
    """An answer that is not success, as a Kubernetes Status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Object | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.retry_after_s = code, retry_after_s
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
        }
        self.status |= {"message": message, "details": details or {}}
