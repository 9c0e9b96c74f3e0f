"""The lane's HTTP surface: `/v1/files` and `/v1/batches` as OpenAI documents them.

Only the gateway speaks to it: it has found out who asks, and says so beside a secret that both were started with. An
upload goes to disk as it comes. Forbidden here: sending lines, and holding a file in memory.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import MultipartReader

from seawall.batch.blobs import FilePart
from seawall.batch.create import create
from seawall.batch.lane import BatchLane, new_id
from seawall.batch.outlook import Outlook
from seawall.batch.requests import NotDone, file_name, lifetime, read_batch, read_page
from seawall.batch.store import TenantHolding
from seawall.batch.words import BatchRecord, StoredFile
from seawall.domain.labels import BATCH_MODELS_HEADER, BATCH_SECRET_HEADER, BATCH_TENANT_HEADER
from seawall.domain.units import show_bytes
from seawall.errors import SourceError

log = logging.getLogger("seawall.batch")
BUFFER = 1 << 20
FIELD = 4096
"""Bytes of a form's field that is no file."""
BODY = 1 << 20
"""Bytes of a body that is no upload."""
RESERVE = 64 * 2**20
"""Bytes of the volume that uploads leave free: results need them more."""


class Surface:
    """See the module."""

    def __init__(self, lane: BatchLane, outlook: Outlook, secret: str) -> None:
        self._lane, self._outlook, self._secret = lane, outlook, secret.encode()
        self.app = web.Application(middlewares=[self._answer], client_max_size=BODY)
        self.app.router.add_post("/v1/files", self._upload)
        self.app.router.add_get("/v1/files", self._files)
        self.app.router.add_get("/v1/files/{id}", self._file)
        self.app.router.add_get("/v1/files/{id}/content", self._content)
        self.app.router.add_delete("/v1/files/{id}", self._delete)
        self.app.router.add_post("/v1/batches", self._create)
        self.app.router.add_get("/v1/batches", self._batches)
        self.app.router.add_get("/v1/batches/{id}", self._batch)
        self.app.router.add_post("/v1/batches/{id}/cancel", self._cancel)

    @web.middleware
    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Who may ask, and errors in OpenAI's form."""
        try:
            if request.path.startswith("/v1/"):
                given = request.headers.get(BATCH_SECRET_HEADER, "").encode()
                if not hmac.compare_digest(given, self._secret):
                    raise NotDone(401, "invalid_api_key", "Ask the gateway: this is its own door.")
            return await handler(request)
        except NotDone as e:
            answer = web.json_response(e.as_json(), status=e.status)
            if e.retry_after_s is not None:
                answer.headers["retry-after"] = str(e.retry_after_s)
            return answer
        except web.HTTPRequestEntityTooLarge:
            return web.json_response(
                NotDone(413, "body_too_large", f"The body is larger than {BODY} bytes.").as_json(), status=413
            )
        except web.HTTPException as e:
            refused = NotDone(
                e.status, "unknown_route", f"{request.method} is nothing that can be done here."
            )
            allow = {"allow": e.headers["allow"]} if "allow" in e.headers else {}
            return web.json_response(refused.as_json(), status=e.status, headers=allow)
        except SourceError as e:
            log.error("%s", e)
            message = "The lane's store does not answer. Nothing is lost: send it again in a while."
            away = web.json_response(NotDone(503, "batch_store_away", message).as_json(), status=503)
            away.headers["retry-after"] = "2"
            return away
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                raise_full = NotDone(507, "storage_full", "The lane's volume is full. Tell the operator.")
                return web.json_response(raise_full.as_json(), status=507)
            raise
        except Exception:
            log.exception("%s %s", request.method, request.path)
            fault = NotDone(500, "internal_error", "The batch lane failed at this; its log says why.")
            return web.json_response(fault.as_json(), status=500)

    # -- files

    async def _upload(self, request: web.Request) -> web.Response:
        lane, tenant = self._lane, _tenant(request)
        spec = lane.rules.spec
        holding = await lane.call(lane.store.holding, tenant)
        self._refuse_count(holding)
        room = min(spec.max_file, spec.space - holding.size, lane.blobs.free() - RESERVE)
        part = lane.blobs.begin(name := new_id("file-", lane.now()))
        try:
            fields = await self._read_form(request, part, room, holding.size)
            purpose = fields.get("purpose")
            if purpose != "batch":
                message = f"purpose: {(purpose or '')[:40]!r}; files are kept here for `batch` alone."
                raise NotDone(400, "invalid_purpose", message, "purpose")
            if "file" not in fields:
                raise NotDone(400, "no_file", "The form has no part `file`.", "file")
            expiry = {
                k[len("expires_after[") : -1]: v for k, v in fields.items() if k.startswith("expires_after[")
            }
            lives = lifetime(expiry.get("anchor", ""), expiry.get("seconds", "")) if expiry else None
            now = int(lane.now())
            file = StoredFile(
                id=name, tenant=tenant, name=fields["file"], purpose=purpose, size=part.size, created=now,
                expires=now + (lives or int(spec.retention)),
            )  # fmt: skip
            await asyncio.to_thread(part.keep)
        finally:
            await asyncio.to_thread(part.drop)
        if not await lane.call(lane.store.add_file, file, spec.files, spec.space):
            await lane.forget(name)  # others of the same tenant came meanwhile
            holding = await lane.call(lane.store.holding, tenant)
            self._refuse_count(holding)
            self._refuse_size(spec.space - holding.size, holding.size)
        await lane.note(
            "file.created", tenant, name, purpose=purpose, bytes=file.size, expires_at=file.expires
        )
        return web.json_response(file.as_json())

    def _refuse_count(self, holding: TenantHolding) -> None:
        if holding.files >= self._lane.rules.spec.files:
            message = f"You have {holding.files} files, as many as may be. Delete some, or give them `expires_after`."
            raise NotDone(429, "too_many_files", message)

    async def _read_form(self, request: web.Request, part: FilePart, room: int, held: int) -> dict[str, str]:
        """The form's fields; the file's bytes go to `part`, and its name stands for it."""
        if not request.content_type.startswith("multipart/form-data"):
            raise NotDone(415, "no_form", "Send multipart/form-data with `purpose` and `file`.")
        fields: dict[str, str] = {}
        try:
            form = await request.multipart()
            while (field := await form.next()) is not None:
                if isinstance(field, MultipartReader) or field.name is None or len(fields) > 16:
                    raise NotDone(400, "invalid_form", "The form has parts that are no fields.")
                if field.name == "file":
                    if "file" in fields:
                        raise NotDone(400, "invalid_form", "The form has two files.", "file")
                    fields["file"] = file_name(field.filename)
                    await self._take(field, part, room, held)
                else:
                    fields[field.name] = await _text(field)
        except (ValueError, AssertionError, RuntimeError, HttpProcessingError) as e:
            why = " ".join(str(e).split())[:100] or type(e).__name__
            raise NotDone(400, "invalid_form", f"The form cannot be read: {why}.") from None
        return fields

    async def _take(self, field: BodyPartReader, part: FilePart, room: int, held: int) -> None:
        """Writes a file's bytes as they come, a buffer at a time."""
        buffer = bytearray()
        while chunk := await field.read_chunk(1 << 16):
            buffer += chunk
            if part.size + len(buffer) > room:
                self._refuse_size(room, held)
            if len(buffer) >= BUFFER:
                await asyncio.to_thread(part.write, bytes(buffer))
                buffer.clear()
                if self._lane.blobs.free() < RESERVE:  # several uploads share what is left
                    self._refuse_size(0, held)
        await asyncio.to_thread(part.write, bytes(buffer))

    def _refuse_size(self, room: int, held: int) -> None:
        spec = self._lane.rules.spec
        if room == spec.max_file:
            message = f"The file is larger than {show_bytes(room)} (gateway.batch.maxFile). Split it."
            raise NotDone(413, "file_too_large", message, "file")
        if room == spec.space - held:
            message = f"Your files may have {show_bytes(spec.space)} together. Delete some."
            raise NotDone(413, "space_exceeded", message, "file")
        raise NotDone(507, "storage_full", "The lane's volume is full. Tell the operator.")

    async def _files(self, request: web.Request) -> web.Response:
        lane, tenant, page = self._lane, _tenant(request), read_page(request.query, 10_000)
        after = await self._own_file(request, page.after) if page.after else None
        found = await lane.call(
            lane.store.files, tenant, page.purpose, after, page.limit + 1, page.newest_first
        )
        return _page([f.as_json() for f in found], page.limit)

    async def _file(self, request: web.Request) -> web.Response:
        return web.json_response((await self._own_file(request, request.match_info["id"])).as_json())

    async def _content(self, request: web.Request) -> web.StreamResponse:
        file = await self._own_file(request, request.match_info["id"])
        try:
            path = await asyncio.to_thread(self._lane.blobs.here, file.id)
        except FileNotFoundError:
            raise _no_file(file.id) from None
        headers = {"content-type": "application/octet-stream", "x-content-type-options": "nosniff"}
        return web.FileResponse(path, chunk_size=1 << 18, headers=headers)

    async def _delete(self, request: web.Request) -> web.Response:
        file = await self._own_file(request, request.match_info["id"])
        needed = await self._lane.forget(file.id)
        if needed is not None:
            message = f"{needed} reads this file. Cancel it first, or wait for its end."
            raise NotDone(409, "file_in_use", message)
        await self._lane.note("file.deleted", file.tenant, file.id, purpose=file.purpose, bytes=file.size)
        return web.json_response({"id": file.id, "object": "file", "deleted": True})

    async def _own_file(self, request: web.Request, file: str) -> StoredFile:
        found = await self._lane.call(self._lane.store.file, file[:200])
        if found is None or found.tenant != _tenant(request):
            raise _no_file(file)
        return found

    # -- batches

    async def _create(self, request: web.Request) -> web.Response:
        asked = read_batch(await request.read())
        file = await self._own_file(request, asked.input_file)
        only = frozenset(unquote(m) for m in request.headers.get(BATCH_MODELS_HEADER, "").split(",") if m)
        key = request.headers.get("idempotency-key", "")[:200] or None
        batch = await create(self._lane, self._outlook, asked, file, only, key)
        return web.json_response(self._shown(batch))

    async def _batches(self, request: web.Request) -> web.Response:
        lane, tenant, page = self._lane, _tenant(request), read_page(request.query, 20)
        after = await self._own_batch(request, page.after) if page.after else None
        found = await lane.call(lane.store.batches, tenant, after, page.limit + 1)
        return _page([self._shown(b) for b in found], page.limit)

    async def _batch(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(await self._own_batch(request, request.match_info["id"])))

    async def _cancel(self, request: web.Request) -> web.Response:
        lane = self._lane
        batch = await self._own_batch(request, request.match_info["id"])
        moved = await lane.call(
            lane.store.move, batch.id, ["validating", "in_progress"], "cancelling", lane.now()
        )
        if moved is None:
            batch = await self._own_batch(request, batch.id)
            if batch.status not in ("cancelling", "cancelled"):
                message = f"The batch is {batch.status}: there is nothing to cancel."
                raise NotDone(409, "batch_not_cancellable", message)
            return web.json_response(self._shown(batch))
        lane.changed.set()
        await lane.note("batch.cancelling", moved.tenant, moved.id)
        return web.json_response(self._shown(moved))

    async def _own_batch(self, request: web.Request, batch: str) -> BatchRecord:
        found = await self._lane.call(self._lane.store.batch, batch[:200])
        if found is None or found.tenant != _tenant(request):
            message = f"There is no batch {batch[:100]!r}; GET /v1/batches lists yours."
            raise NotDone(404, "batch_not_found", message)
        return found

    def _shown(self, batch: BatchRecord) -> dict[str, Any]:
        return batch.as_json({"seawall": self._outlook.told(batch, self._lane.now())})


def _tenant(request: web.Request) -> str:
    return unquote(request.headers.get(BATCH_TENANT_HEADER, ""))


async def _text(field: BodyPartReader) -> str:
    text = bytearray()
    while chunk := await field.read_chunk(FIELD):
        text += chunk
        if len(text) > FIELD:
            raise NotDone(400, "invalid_form", f"The field {(field.name or '')[:40]} is too long.")
    return text.decode("utf-8", "replace")


def _no_file(file: str) -> NotDone:
    return NotDone(404, "file_not_found", f"There is no file {file[:100]!r}; GET /v1/files lists yours.")


def _page(found: list[dict[str, Any]], limit: int) -> web.Response:
    """One page of a list; one more than `limit` says that there are more."""
    data = found[:limit]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return web.json_response({"object": "list", "data": data, **ends, "has_more": len(found) > limit})
