"""The errors that Seawall raises on purpose, split by who can mend them.

    SeawallError
    ├── InputError      the user's: a spec, a flag, a file        exit code 2
    ├── CheckFailed     a check or a promise did not hold         exit code 1
    ├── ClusterError    Kubernetes refused or is away             exit code 3
    ├── EngineError     a vLLM server failed or is away           exit code 3
    ├── SourceError     a hub, bucket or registry failed          exit code 3
    └── Stopped         Ctrl-C while what was begun goes on       exit code 130

The CLI prints `message`, then `cure` as the next thing to do. Anything else that escapes is our bug
and keeps its traceback. Nothing secret may be put into a message: it ends in logs.
"""

from __future__ import annotations

import re


def in_words(error: BaseException) -> str:
    """What a failed connection or a file that cannot be read says, without the system's number and Python's names:
    `connection refused`, `line 1, column 2: expecting value`."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8 text"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"{error.args[0] if error.args else 'a key'} is missing"
    if (line := getattr(error, "lineno", None)) and (column := getattr(error, "colno", None)):
        return f"line {line}, column {column}: {getattr(error, 'msg', '').lower()}"
    said = re.sub(r"\[Errno -?\d+\] ", "", str(error)).strip() or of_kind(error)
    said = re.sub(r"^Connect call failed \(.*\)$", "connection refused", said).rstrip(".")
    return said if said[1:2].isupper() else said[:1].lower() + said[1:]


def of_kind(error: BaseException) -> str:
    """The kind of a failure, in words: for where its own text could hold a secret, such as a signed URL."""
    return _spelt(type(error).__name__)


def _spelt(name: str) -> str:
    """The words of a class's name: `ConnectTimeout` is `connect timeout`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Error") or name).lower()


class SeawallError(Exception):
    """An error with a cure. `message` says what is wrong (with path and value), `cure` what to do."""

    exit_code = 3

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure
        self.told = False
        """The verb has already printed its answer: with --output json, nothing more is put on stdout."""

    def __str__(self) -> str:
        return f"{self.message} {self.cure}".strip()


class InputError(SeawallError):
    """The user's input cannot be used as it is."""

    exit_code = 2


class CheckFailed(SeawallError):
    """A check ran and its answer is no."""

    exit_code = 1


class ClusterError(SeawallError):
    """The Kubernetes API refused, timed out or is away."""


class EngineError(SeawallError):
    """An engine could not be installed, started or talked to."""


class SourceError(SeawallError):
    """A source of weights refused, timed out, or sent something other than the lockfile says."""


class Stopped(SeawallError):
    """The user stopped waiting (Ctrl-C); what was begun goes on, and the cure says how to look at it."""

    exit_code = 130
