"""`seawall pull`: from a source to a directory that is whole, verified and says so. The marker is written last.

directory/
  model-00001-of-00002.safetensors, config.json, ...   under their names only when their hash is right
  .seawall/complete.json     written last: the digest of the lock that the directory satisfies
  .seawall/before.json       the files of the revision that was here, while another comes
  .seawall/verified.jsonl    size, mtime and hash of files that were verified, so that a restart does not re-read
  .seawall/*.data, *.map     files on their way in
  .seawall/lease             one puller at a time
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from seawall.domain.units import counted, show_bytes
from seawall.errors import CheckFailed, InputError, SourceError
from seawall.weights.fetch import Fetch, FetchPolicy, PullWatcher, told_of_disk
from seawall.weights.lease import Lease
from seawall.weights.listing import Listing, RemoteFile, WeightsForm, checked, one_form, safe_path
from seawall.weights.lockfile import Lock, LockedFile, read_lock, write_lock
from seawall.weights.safetensors import check_header
from seawall.weights.sources import ListingRequest, open_source

LOCK_NAME = "seawall.lock"
_HIDDEN = ".seawall"
_MARK, _BEFORE = "complete.json", "before.json"


@dataclass(frozen=True)
class Order:
    """One pull: what, where to, and how strictly."""

    uri: str
    directory: Path
    lock_file: Path
    revision: str | None = None
    allow_pickle: bool = False
    policy: FetchPolicy | None = None
    form: WeightsForm = "hf"
    """Which copy of the weights to take where the source has two and no lock says which files."""


@dataclass(frozen=True)
class Pulled:
    """The result of a pull."""

    lock: Lock
    directory: Path
    downloaded_bytes: int
    already: bool
    """Everything was there and verified before."""
    left_out: tuple[RemoteFile, ...] = ()
    """Files of the source with the same weights once more, in the form that the engine does not load."""


class Quiet:
    """A watcher that counts and says nothing."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def bytes_done(self, count: int) -> None:
        with self._lock:
            self.total += count

    def note(self, text: str) -> None:
        return


def pull(
    order: Order,
    env: dict[str, str],
    watcher: PullWatcher | None = None,
    on_size: Callable[[int], None] | None = None,
) -> Pulled:
    """Downloads, verifies, writes the lock (or obeys the one that is there) and marks the directory complete.

    Raises InputError, SourceError or CheckFailed; whatever happens, a file under its real name is whole.
    """
    watcher = watcher or Quiet()
    lock = read_lock(order.lock_file) if order.lock_file.exists() else None
    if lock and order.revision and order.revision != lock.revision:
        raise InputError(
            f"{order.lock_file} pins revision {lock.revision}, you asked for {order.revision}.",
            "Remove the lockfile to move to another revision.",
        )

    missing = [d for d in (order.directory / _HIDDEN, *(order.directory / _HIDDEN).parents) if not d.exists()]
    hidden = _prepare(order.directory)
    try:
        with Lease(hidden, on_wait=_waiting(watcher, order.directory)) as lease:
            return _pull(order, lock, env, watcher, on_size or (lambda size: None), lease)
    except OSError as e:
        raise told_of_disk(e, order.directory) from None
    finally:
        for folder in missing:  # nothing came: a mistyped name leaves no folder behind
            with contextlib.suppress(OSError):
                folder.rmdir()


def _waiting(watcher: PullWatcher, directory: Path) -> Callable[[float], None]:
    def waiting(seconds: float) -> None:
        if int(seconds * 5) % 25 == 0:
            watcher.note(f"another pull is at work in {directory}; waiting")

    return waiting


def _pull(
    order: Order,
    lock: Lock | None,
    env: dict[str, str],
    watcher: PullWatcher,
    on_size: Callable[[int], None],
    lease: Lease,
) -> Pulled:
    """`pull`, alone in the directory."""
    directory, hidden = order.directory, order.directory / _HIDDEN
    seen = _Verified(directory)
    if lock and is_complete(directory, lock) and all(seen.untouched(f) for f in lock.files):
        return Pulled(lock, directory, 0, already=True)
    listing = checked(open_source(ListingRequest(order.uri, order.revision, lock, env)), order.allow_pickle)
    left_out: tuple[RemoteFile, ...] = ()
    if not lock:
        listing, left_out = one_form(listing, order.form)
    files = obeyed(listing, lock) if lock else list(listing.files)
    on_size(sum(f.size for f in files))
    here = [LockedFile(f.path, f.size, h) for f in files if (h := _already(directory, f, seen))]
    watcher.bytes_done(sum(f.size for f in here))
    names = {f.path for f in here}
    todo = [f for f in files if f.path not in names]
    policy = order.policy or FetchPolicy()
    fetch = Fetch(directory, lease, watcher, policy, seen.add, lambda: _unmark(hidden))
    landed = fetch.run(todo) if todo else []
    result = Lock(lock.source if lock else listing.source, listing.revision, tuple(here + landed))
    if lock and result.digest != lock.digest:
        raise SourceError(
            "what arrived is not what the lockfile pins.", check_command(directory, order.lock_file)
        )
    result = lock or result
    if not lock:
        write_lock(result, order.lock_file)
    for f in files:
        seen.keep(f, next(r.sha256 for r in result.files if r.path == f.path))
    _unmark(hidden)
    _clear(directory, result)
    _mark(hidden, result)
    _sweep(hidden)
    return Pulled(result, directory, sum(f.size for f in landed), not todo, left_out)


def check_command(directory: Path, lock_file: Path) -> str:
    """The command that reads every byte of a pulled directory again."""
    lock = "" if lock_file == directory / LOCK_NAME else f" --lock {shlex.quote(str(lock_file))}"
    return f"seawall pull --check --to {shlex.quote(str(directory))}{lock}"


def pull_command(lock: Lock, directory: Path, lock_file: Path) -> str:
    """The command that brings a directory to what its lock pins."""
    named = "" if lock_file == directory / LOCK_NAME else f" --lock {shlex.quote(str(lock_file))}"
    return f"seawall pull {shlex.quote(lock.source)} --to {shlex.quote(str(directory))}{named}"


def is_complete(directory: Path, lock: Lock | None = None) -> bool:
    """The marker is there, agrees with the lock, and every file has its size. Costs one stat per file."""
    try:
        mark = json.loads((directory / _HIDDEN / _MARK).read_bytes())
        if lock is not None:
            return bool(mark["digest"] == lock.digest) and all(
                (directory / f.path).stat().st_size == f.size for f in lock.files
            )
        return all((directory / path).stat().st_size == size for path, size in mark["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def check(
    directory: Path, lock: Lock, watcher: PullWatcher | None = None, workers: int = 4, cure: str = ""
) -> None:
    """Reads every file once and compares its hash. CheckFailed lists what is missing or wrong, and what was found
    wrong is remembered: the next pull reads it again, though its size and time say nothing."""
    watcher = watcher or Quiet()

    def problem(f: LockedFile) -> str | None:
        path = directory / f.path
        try:
            size = path.stat().st_size
        except OSError:
            return f"{f.path}: missing"
        if size != f.size:
            return f"{f.path}: {size} bytes, the lock says {f.size}"
        if _hash(path, watcher) != f.sha256:
            return f"{f.path}: wrong sha256"
        if f.path.endswith(".safetensors"):
            check_header(path, f.path)
        return None

    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(problem, lock.files))
    wrong = [f.path for f, said in zip(lock.files, found, strict=True) if said]
    if wrong:
        with contextlib.suppress(OSError):  # a volume that may only be read can only be judged
            _Verified(directory).forget(wrong)
            _unmark(directory / _HIDDEN)
        bad = [said for said in found if said]
        more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise CheckFailed(
            f"{directory}: {len(bad)} of {len(lock.files)} files are not right:\n  "
            + "\n  ".join(bad[:20])
            + more,
            f"Only what is wrong is downloaded by: {cure or pull_command(lock, directory, directory / LOCK_NAME)}",
        )


def _prepare(directory: Path) -> Path:
    hidden = directory / _HIDDEN
    try:
        hidden.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{directory}: is a file.", "Name a folder with --to.") from None
    except OSError as e:
        raise InputError(
            f"{directory}: cannot be made ({e.strerror}).", "Name a folder you may write (--to)."
        ) from None
    return hidden


def obeyed(listing: Listing, lock: Lock) -> list[RemoteFile]:
    """The listing's files with the lock's hashes; SourceError when the source has not exactly them."""
    offered = {f.path: f for f in listing.files}
    files = []
    for pinned in lock.files:
        f = offered.get(pinned.path)
        if f is None:
            raise SourceError(
                f"{listing.source} no longer has {pinned.path}, which the lockfile pins.", _UNLOCK
            )
        if f.size != pinned.size or (f.sha256 and f.sha256 != pinned.sha256):
            raise SourceError(f"{listing.source} has another {pinned.path} than the lockfile pins.", _UNLOCK)
        files.append(RemoteFile(f.path, f.size, f.read, pinned.sha256, None, pinned.sha256))
    return files


_UNLOCK = "Nothing was downloaded. Remove the lockfile only if you mean to take the new weights."


def _already(directory: Path, file: RemoteFile, seen: _Verified) -> str | None:
    """sha256 of a file that lies here already and is the one wanted."""
    path = directory / file.path
    if not path.parent.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{path.parent}: leads out of {directory}.", "Remove that symbolic link.")
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return None
    known = seen.lookup(file)
    if file.sha256 is None and file.git_sha1 is None:
        return known
    sha256 = known or _hash(path, Quiet())
    if file.sha256:
        return sha256 if sha256 == file.sha256 else None
    return sha256 if known or _git_sha1(path, file) == file.git_sha1 else None


def _git_sha1(path: Path, file: RemoteFile) -> str | None:
    if not file.git_sha1:
        return None
    h = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    h.update(path.read_bytes())
    return h.hexdigest()


def _hash(path: Path, watcher: PullWatcher) -> str:
    h = hashlib.sha256()
    with path.open("rb", buffering=0) as f:
        while chunk := f.read(8 * 2**20):
            h.update(chunk)
            watcher.bytes_done(len(chunk))
    return h.hexdigest()


class _Verified:
    """What earlier runs verified, a line a file: a file that changed here or at the source since is not in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / _HIDDEN / "verified.jsonl"
        self._known: dict[str, list[object]] = {}
        try:
            for line in self._file.read_bytes().splitlines():
                entry = json.loads(line)
                self._known[entry[0]] = entry[1:]
        except FileNotFoundError:
            return
        except (OSError, ValueError, LookupError, TypeError):
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    def lookup(self, file: RemoteFile) -> str | None:
        """The hash of a file that is as it was when it was verified, and is the one that is offered."""
        known = self._known.get(file.path)
        if not known or known[:2] != self._stat(file.path):
            return None
        return str(known[-1]) if known[2] == file.identity or known[-1] == file.sha256 else None

    def untouched(self, pinned: LockedFile) -> bool:
        """The file has the size and the time that it had when it was found to be what the lock pins."""
        known = self._known.get(pinned.path)
        return known is not None and known[:2] == self._stat(pinned.path) and known[-1] == pinned.sha256

    def add(self, file: RemoteFile, sha256: str) -> None:
        """Called from the workers, once per file that landed; one short append each."""
        facts = [*self._stat(file.path), file.identity, sha256]
        self._known[file.path] = facts
        with self._file.open("a", encoding="utf-8") as f:
            f.write(json.dumps([file.path, *facts]) + "\n")

    def keep(self, file: RemoteFile, sha256: str) -> None:
        """Notes a file that was here before the pull; nothing is written when it is known already."""
        if self.lookup(file) != sha256:
            self.add(file, sha256)

    def forget(self, paths: Sequence[str]) -> None:
        """Takes files out: they must be read again."""
        self._known = {path: facts for path, facts in self._known.items() if path not in set(paths)}
        _replace(
            self._file, "".join(json.dumps([path, *facts]) + "\n" for path, facts in self._known.items())
        )

    def _stat(self, path: str) -> list[object]:
        stat = (self._directory / path).stat()
        return [stat.st_size, stat.st_mtime_ns]


def _mark(hidden: Path, lock: Lock) -> None:
    body = {"digest": lock.digest, "revision": lock.revision, "files": {f.path: f.size for f in lock.files}}
    _replace(hidden / _MARK, json.dumps(body, indent=1))


def _unmark(hidden: Path) -> None:
    """Takes the marker away before the first file of something else is put in place; what it listed is remembered."""
    listed = _listed(hidden / _MARK)
    if listed:
        _replace(hidden / _BEFORE, json.dumps({"files": _listed(hidden / _BEFORE) | listed}))
    (hidden / _MARK).unlink(missing_ok=True)


def _listed(path: Path) -> dict[str, int]:
    try:
        files = json.loads(path.read_bytes())["files"]
        return {safe_path(str(name)): int(size) for name, size in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SourceError):
        return {}


def _clear(directory: Path, lock: Lock) -> None:
    """Removes the files of the revision before that this one has not: an engine would load an index that stayed, or
    shards of it. What has another size than was pulled is somebody's own."""
    before = directory / _HIDDEN / _BEFORE
    now = {f.path for f in lock.files}
    for name, size in _listed(before).items():
        path = directory / name
        if name in now or not path.parent.resolve().is_relative_to(directory.resolve()):
            continue
        if path.is_file() and not path.is_symlink() and path.stat().st_size == size:
            path.unlink()
            for folder in path.parents[: len(path.relative_to(directory).parts) - 1]:
                with contextlib.suppress(OSError):  # something else is in it
                    folder.rmdir()
    before.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    partial.replace(path)


def _sweep(hidden: Path) -> None:
    """Removes what interrupted pulls of other revisions left behind."""
    for leftover in [*hidden.glob("*.data"), *hidden.glob("*.map"), *hidden.glob("*.json.*")]:
        leftover.unlink(missing_ok=True)


def told(pulled: Pulled) -> str:
    """One line for a person, and one for what was left out."""
    size, n = show_bytes(pulled.lock.total_bytes), counted(len(pulled.lock.files), "file")
    if pulled.already:
        done = f"whole   {n}, {size}, revision {pulled.lock.revision}; nothing to download"
    else:
        done = f"pulled  {n}, {size}, revision {pulled.lock.revision}, every sha256 verified"
    return "\n  ".join([done, *left_out_told(pulled.left_out)])


def left_out_told(files: Sequence[RemoteFile]) -> list[str]:
    """Nothing, or the line that says which copy of the weights stayed where it was."""
    tensors = [f for f in files if f.path.endswith(".safetensors")]
    if not tensors:
        return []
    more = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
    size = show_bytes(sum(f.size for f in tensors))
    return [f"left out {tensors[0].path}{more}, {size}: the same weights in another form (--form)"]
