"""Fleet specs: YAML -> validated `Fleet`, and `Fleet` -> YAML. The edge where pydantic works.

Every message has the file, the line, the path, the value and the cure. Nothing here plans or talks.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from seawall.config import hints
from seawall.config.yaml import Document, documents, read_text
from seawall.decide.batch.rules import bucket_parts
from seawall.decide.route.room import bound_of, process_for
from seawall.decide.scale.schedule import cron_problem, parse_cron, zone_of
from seawall.domain.catalog.gpus import ambiguous
from seawall.domain.spec import API_VERSION, BatchSpec, Fleet, Strict
from seawall.domain.tenant_names import TENANT, TENANT_CURE
from seawall.drivers.store_client import parse_address
from seawall.errors import InputError

MOST_PROBLEMS = 20
MOST_WINDOWS = 32
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a spec. `path` is as in the YAML: `spec.scaling.max`."""

    path: str
    message: str
    line: int | None = None


@functools.cache
def adapter() -> TypeAdapter[Fleet]:
    return TypeAdapter(Fleet)


def load_fleets(path: Path | str) -> list[Fleet]:
    """All fleets in a YAML file (several documents in one file are several fleets), with `model://name`
    replaced by what the registry beside the file pins.

    Raises InputError with one line per problem when anything in the file is not right.
    """
    path = Path(path)
    fleets = parse_fleets(read_text(path), "<stdin>" if str(path) == "-" else str(path))
    if any(f.spec.model.source.startswith("model://") for f in fleets):
        from seawall.config.registry import folder_for, with_model

        fleets = [with_model(f, folder_for(path)) for f in fleets]
    return fleets


def parse_fleets(text: str, name: str = "fleet.yaml") -> list[Fleet]:
    """All fleets in a text; `name` is what messages call it. See `load_fleets`."""
    fleets: list[Fleet] = []
    for doc in documents(text, name):
        fleet, problems = parse_document(doc)
        if problems:
            raise InputError(
                "\n".join(f"{name}:{p.line or doc.line}: {p.path}: {p.message}" for p in problems),
                _look_up(problems[0].path),
            )
        assert fleet is not None
        fleets.append(fleet)
    if not fleets:
        raise InputError(f"{name}: holds no Fleet.", "Write one: seawall init MODEL --write fleet.yaml")
    keys = [(f.metadata.namespace, f.name) for f in fleets]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"{name}: two fleets are named {key[1]} in namespace {key[0]}.", "Rename one.")
    return fleets


def _look_up(path: str) -> str:
    """The command that tells what may stand where a wrong key or value stands."""
    known: list[str] = []
    for part in path.replace("[", ".").replace("]", "").split("."):
        if not part.isdigit():
            if part not in hints.keys_at(known):
                break
            known.append(part)
    return f"Look it up: {' '.join(['seawall explain', *filter(None, ['.'.join(known)])])}"


def load_fleet(path: Path | str) -> Fleet:
    """The only fleet in a file; InputError when it holds several."""
    fleets = load_fleets(path)
    if len(fleets) > 1:
        names = ", ".join(f.name for f in fleets)
        raise InputError(f"{path}: holds {len(fleets)} fleets ({names}).", "Name one with --fleet.")
    return fleets[0]


def parse_document(doc: Document) -> tuple[Fleet | None, list[Problem]]:
    data = doc.data
    if not isinstance(data, dict):
        return None, [Problem("document", f"is {hints.shown(data)}, not a Fleet; start with `kind: Fleet`")]
    if data.get("kind") != "Fleet" or data.get("apiVersion") != API_VERSION:
        got = f"{data.get('apiVersion')!s:.80}/{data.get('kind')!s:.80}"
        return None, [
            Problem("kind", f"{got} is not known here; write apiVersion: {API_VERSION}, kind: Fleet")
        ]
    if wrong := [
        Problem(".".join(path), f"{hints.shown(value)} is not right; write a number", _line(doc, list(path)))
        for path, value in hints.bare_numbers(data)
    ] + [
        Problem(
            ".".join(path), f"{hints.shown(value)} is not right; write true or false", _line(doc, list(path))
        )
        for path, value in hints.loose_booleans(data)
    ]:
        return None, wrong[:MOST_PROBLEMS]
    try:
        fleet = adapter().validate_python(data)
    except ValidationError as e:
        return None, [_problem(err, doc) for err in e.errors(include_url=False)][:MOST_PROBLEMS]
    return fleet, [Problem(p.path, p.message, _line(doc, p.path.split("."))) for p in _semantic(fleet)]


def dump_fleet(fleet: Fleet) -> dict[str, Any]:
    """`Fleet` -> the plain mapping that `parse_document` reads back to an equal Fleet. Defaults are left out."""
    body: dict[str, Any] = adapter().dump_python(fleet, by_alias=True, exclude_defaults=True, mode="json")
    return {"apiVersion": API_VERSION, "kind": "Fleet", **body}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a Fleet document, for editors."""
    # Reading the docstrings under fields costs a third of a second of CPU, so only this pays for it.
    Strict.__pydantic_config__["use_attribute_docstrings"] = True
    try:
        schema = TypeAdapter(Fleet).json_schema(by_alias=True)
    finally:
        Strict.__pydantic_config__["use_attribute_docstrings"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://seawall.dev/schema/v1alpha1/fleet.json",
        **schema,
        "required": ["apiVersion", "kind", "metadata", "spec"],
    }


def _semantic(fleet: Fleet) -> list[Problem]:
    """What no single field can know. Rendering and planning have checks of their own."""
    out: list[Problem] = []
    scaling, md = fleet.spec.scaling, fleet.metadata
    for what in ("name", "namespace"):
        value = getattr(md, what)
        if not _LABEL.fullmatch(value):
            out.append(
                Problem(f"metadata.{what}", f"{value!r} is not a DNS label; use a-z, 0-9 and '-', at most 63")
            )
    if scaling.max < scaling.min:
        out.append(Problem("spec.scaling.max", f"{scaling.max} is less than min {scaling.min}; raise max"))
    out += _schedule(fleet)
    if "://" not in fleet.spec.model.source:
        src = fleet.spec.model.source
        hint = f"hf://{src}" if src.count("/") == 1 and not src.startswith((".", "/")) else f"file://{src}"
        out.append(Problem("spec.model.source", f"{src!r} has no scheme; write {hint}"))
    names = [*fleet.served_names, *(a.name for a in fleet.spec.model.adapters), *fleet.spec.gateway.aliases]
    for n in sorted({n for n in names if names.count(n) > 1}):
        out.append(
            Problem("spec.model.servedNames", f"{n!r} names two things; every model name must be its own")
        )
    if sizes := ambiguous(fleet.spec.hardware.gpu):
        out.append(Problem("spec.hardware.gpu", f"{fleet.spec.hardware.gpu!r} is sold with {sizes}"))
    tenants = [t.name for t in fleet.spec.gateway.tenants]
    for n in tenants:
        if not TENANT.fullmatch(n):
            out.append(Problem("spec.gateway.tenants", f"{n!r:.80} is no name for a tenant; {TENANT_CURE}"))
    for n in sorted({n for n in tenants if tenants.count(n) > 1}):
        out.append(Problem("spec.gateway.tenants", f"{n!r} stands twice; merge the two"))
    out += _pool(fleet)
    gateway = fleet.spec.gateway
    if gateway.store not in (None, "managed"):
        try:
            if parse_address(str(gateway.store)).password:
                cure = "leave it out; on Kubernetes storeSecret names it, else SEAWALL_STORE_PASSWORD_FILE"
                out.append(Problem("spec.gateway.store", f"holds a password; {cure}"))
        except InputError as e:
            out.append(Problem("spec.gateway.store", f"{e.message.rstrip('.')}; {e.cure}"))
    out += _lane(gateway.batch)
    if gateway.memory is not None and bound_of(gateway.memory) < 2 * gateway.max_body:
        least = process_for(2 * gateway.max_body) >> 20
        out.append(Problem("spec.gateway.memory", f"holds no two bodies of maxBody; write {least}Mi or more"))
    if not 4096 <= fleet.spec.gateway.max_head <= 2**20:
        out.append(Problem("spec.gateway.maxHead", "is between 4Ki and 1Mi; leave it out, and it is 32Ki"))
    slots, adapters = fleet.spec.model.adapter_slots, fleet.spec.model.adapters
    if slots is not None and len(adapters) > slots:
        out.append(
            Problem("spec.model.adapterSlots", f"{slots} is less than the {len(adapters)} adapters; raise it")
        )
    canary = fleet.spec.rollout.canary
    if canary:
        weights = [s.weight for s in canary.steps]
        if not weights or weights != sorted(set(weights)):
            out.append(
                Problem("spec.rollout.canary.steps", f"weights {weights} must rise, such as 5, 25, 50")
            )
    return out


def _lane(batch: BatchSpec | None) -> Iterator[Problem]:
    if batch is None:
        return
    where = "spec.gateway.batch"
    if batch.store is not None and not batch.store.startswith(("postgresql://", "postgres://", "/")):
        yield Problem(
            f"{where}.store", f"{batch.store!r:.80} is no database; write postgresql://USER@HOST/NAME"
        )
    if batch.bucket is not None:
        try:
            bucket_parts(batch.bucket)
        except ValueError:
            yield Problem(
                f"{where}.bucket", f"{batch.bucket!r:.80} is no bucket; write s3://BUCKET/FOLDER or gs://..."
            )
    elif batch.bucket_secret:
        yield Problem(
            f"{where}.bucketSecret", "opens nothing; write bucket: s3://BUCKET/FOLDER, or leave it out"
        )


def _schedule(fleet: Fleet) -> Iterator[Problem]:
    scaling = fleet.spec.scaling
    zone = scaling.timezone
    try:
        zone_of(zone)
    except ValueError as e:
        yield Problem("spec.scaling.timezone", f"{zone!r:.80} {e}")
        zone = "UTC"
    if len(scaling.schedule) > MOST_WINDOWS:
        told = f"{len(scaling.schedule)} windows are more than {MOST_WINDOWS}; put their moments together with lists"
        yield Problem("spec.scaling.schedule", told)
        return
    for n, window in enumerate(scaling.schedule):
        path = f"spec.scaling.schedule.{n}"
        crons = {"start": window.start, "end": window.end}
        wrong = {key: problem for key, text in crons.items() if (problem := cron_problem(text, zone))}
        for key, problem in wrong.items():
            yield Problem(f"{path}.{key}", f"{crons[key]!r:.80} {problem}")
        if not wrong and parse_cron(window.start) == parse_cron(window.end):
            yield Problem(f"{path}.end", "is when it starts, so it would never be open; name a later time")
        if window.min > scaling.max:
            yield Problem(
                f"{path}.min", f"{window.min} is more than spec.scaling.max {scaling.max}; raise that"
            )
        if window.max is not None and window.max < max(window.min, scaling.min):
            least = max(window.min, scaling.min)
            yield Problem(f"{path}.max", f"{window.max} is less than the min {least} then; raise it")
        if window.max is not None and window.max > scaling.max:
            yield Problem(
                f"{path}.max", f"{window.max} is more than spec.scaling.max {scaling.max}; raise that"
            )
        if window.max is None and window.min <= scaling.min:
            yield Problem(
                f"{path}.min", f"{window.min} changes nothing beside scaling.min; write a higher one"
            )


def _pool(fleet: Fleet) -> Iterator[Problem]:
    pool, hardware = fleet.spec.pool, fleet.spec.hardware
    if pool is None:
        return
    if not _LABEL.fullmatch(pool.name):
        yield Problem("spec.pool.name", f"{pool.name!r} is not a DNS label; use a-z, 0-9 and '-', at most 63")
    if hardware.spot is not None:
        yield Problem(
            "spec.pool", "a pool has a fixed number of GPUs and spot has not; leave one of them out"
        )
    if pool.sleep and hardware.gpu == "cpu" and fleet.spec.engine.kind == "vllm":
        yield Problem("spec.pool.sleep", "vLLM has no sleep mode on CPU; leave it out")
    if fleet.spec.rollout.canary and fleet.spec.rollout.canary.candidate:
        yield Problem("spec.pool", "a canary's candidate needs room of its own; roll out without a pool")


def _line(doc: Document, path: list[str]) -> int | None:
    parts: tuple[str | int, ...] = tuple(int(p) if p.isdigit() else p for p in path)
    for n in range(len(parts), 0, -1):
        if parts[:n] in doc.lines:
            return doc.lines[parts[:n]]
    return None


def _problem(err: Any, doc: Document) -> Problem:
    loc = [str(p) for p in err["loc"]]
    path, kind = ".".join(loc), err["type"]
    line = _line(doc, loc)
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return Problem(path, f"unknown key; {hints.of_key(loc)}", line)
    if kind in ("missing", "missing_keyword_only_argument", "missing_argument"):
        return Problem(path, "is required; add it", line)
    return Problem(path, f"{hints.shown(err.get('input'))} is not right; {hints.of_value(err, loc)}", line)
