"""The surface's corners, over its own door and without an engine: forms, pages, ids of others, limits, and the lines of
files as people's programs write them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient, TestServer
from tests.unit.batch.making import CHAT, a_line

from seawall.batch.lane import BatchLane
from seawall.batch.outlook import Outlook
from seawall.batch.surface import Surface
from seawall.decide.batch.rules import FleetRules, LaneRules
from seawall.domain.labels import BATCH_MODELS_HEADER, BATCH_SECRET_HEADER, BATCH_TENANT_HEADER
from seawall.domain.spec import BatchSpec

RULES = LaneRules((FleetRules("f", frozenset({"m", "other"})),), BatchSpec(batches=4, max_lines=50))
LINE = json.dumps(a_line("a")).encode()
SECOND = json.dumps(a_line("b")).encode()


class Door:
    """The lane's own door, as the gateway uses it for a tenant."""

    def __init__(self, client: TestClient[Any, Any], lane: BatchLane, outlook: Outlook) -> None:
        self._client, self.lane, self.outlook = client, lane, outlook

    async def ask(self, method: str, path: str, tenant: str = "t", **more: Any) -> tuple[int, Any]:
        headers = {BATCH_SECRET_HEADER: "s", BATCH_TENANT_HEADER: tenant, **more.pop("headers", {})}
        async with self._client.request(method, path, headers=headers, **more) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    async def upload(self, content: bytes, **fields: str) -> tuple[int, Any]:
        form = FormData({"purpose": "batch", **fields})
        form.add_field("file", content, filename="in.jsonl")
        return await self.ask("POST", "/v1/files", data=form)

    async def create(self, content: bytes | str, **changes: Any) -> tuple[int, Any]:
        """A batch of a file's content, or of the file of that id."""
        if isinstance(content, bytes):
            status, file = await self.upload(content)
            assert status == 200
            content = file["id"]
        headers = changes.pop("headers", {})
        asked = {"input_file_id": content, "endpoint": CHAT, "completion_window": "24h", **changes}
        return await self.ask("POST", "/v1/batches", json=asked, headers=headers)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    lane = BatchLane(tmp_path, None, RULES)
    outlook = Outlook(RULES)
    async with TestClient(TestServer(Surface(lane, outlook, "s").app)) as client:
        yield Door(client, lane, outlook)
    await lane.close()


@pytest.mark.parametrize(
    "content",
    [
        LINE + b"\n" + SECOND,
        LINE + b"\r\n" + SECOND + b"\r\n",
        b"\xef\xbb\xbf" + LINE + b"\n" + SECOND + b"\n",
        b"\n\n" + LINE + b"\n  \t\n" + SECOND + b"\n\n\n",
        b"  " + LINE + b"  \n\t" + SECOND,
    ],
    ids=["no last line end", "carriage returns", "byte order mark", "empty lines", "blanks"],
)
async def test_files_as_programs_write_them_are_read(door: Door, content: bytes) -> None:
    status, batch = await door.create(content)
    assert (status, batch["status"], batch["request_counts"]["total"]) == (200, "in_progress", 2)
    assert batch["errors"] is None and batch["in_progress_at"] and batch["output_file_id"] is None
    assert batch["expires_at"] == batch["created_at"] + 86_400


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (a_line("a"), "duplicate_custom_id", "custom_id"),
        (
            a_line("b", body={"model": "m", "messages": [], "stream": True}),
            "stream_not_supported",
            "body.stream",
        ),
        (a_line("b", body={"model": "nobody's", "messages": []}), "model_not_found", "body.model"),
        (a_line("b", url="/v1/embeddings"), "mismatched_url", "url"),
        (a_line("b", url="/v1/audio/speech"), "invalid_url", "url"),
        (a_line("b", method="GET"), "invalid_method", "method"),
        (a_line("b", body=[]), "invalid_request", "body"),
        (a_line(""), "invalid_custom_id", "custom_id"),
        (a_line("x" * 513), "invalid_custom_id", "custom_id"),
        ('{"custom_id": "b", ', "invalid_json_line", None),
        ('"' + "[" * 5000, "invalid_json_line", None),
    ],
)
async def test_a_wrong_line_fails_its_batch_and_is_named(
    door: Door, line: Any, code: str, param: str | None
) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    status, batch = await door.create(b"\r\n" + LINE + b"\r\n" + text.encode())
    assert (status, batch["status"]) == (200, "failed") and batch["failed_at"]
    (error,) = batch["errors"]["data"]
    assert (error["code"], error["param"], error["line"]) == (code, param, 3), error["message"]
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}


async def test_a_file_of_nothing_or_of_too_much_fails_its_batch(door: Door) -> None:
    assert (await door.create(b"\n \n"))[1]["errors"]["data"][0]["code"] == "empty_file"
    many = b"".join(json.dumps(a_line(f"q{n}")).encode() + b"\n" for n in range(51))
    (error,) = (await door.create(many))[1]["errors"]["data"]
    assert (error["code"], error["line"]) == ("too_many_lines", 51)


async def test_a_key_that_opens_one_model_makes_batches_of_that_one(door: Door) -> None:
    other = json.dumps(a_line("b", body={"model": "other", "messages": []})).encode()
    _, batch = await door.create(LINE + b"\n" + other, headers={BATCH_MODELS_HEADER: "m"})
    assert [(e["code"], e["line"]) for e in batch["errors"]["data"]] == [("model_not_found", 2)]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {"k": 7}}, "metadata"),
        ({"completion_window": "9m"}, "completion_window"),
        ({"completion_window": "91d"}, "completion_window"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": 24}, "completion_window"),
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "now", "seconds": 7200}}, "output_expires_after.anchor"),
    ],
)
async def test_a_field_that_is_not_right_is_named(door: Door, changes: dict[str, Any], param: str) -> None:
    status, told = await door.create(LINE, **changes)
    assert (status, told["error"]["type"]) == (400, "invalid_request_error")
    assert told["error"]["param"] == param and told["error"]["code"], told


async def test_metadata_at_its_limits_comes_back_and_none_is_null(door: Door) -> None:
    most = {f"{n:064}": "v" * 512 for n in range(16)}
    assert (await door.create(LINE, metadata=most))[1]["metadata"] == most
    assert (await door.create(LINE, metadata=None))[1]["metadata"] is None


async def test_a_window_that_cannot_be_met_is_refused_with_the_earliest_that_can(door: Door) -> None:
    pace = door.outlook.pace("f")
    pace.done(5.0, 500.0)
    pace.look([(1.0, 5.0)], 1.0, fell=False, more=True)
    many = b"".join(json.dumps(a_line(f"q{n}")).encode() + b"\n" for n in range(40))
    file = (await door.upload(many))[1]["id"]
    key = {"idempotency-key": "k"}
    status, told = await door.create(file, completion_window="1h", headers=key)
    assert (status, told["error"]["code"], told["error"]["param"]) == (
        400, "window_cannot_be_met", "completion_window",
    )  # fmt: skip
    earliest = re.search(r"earliest window that can be met is (\d+m)", told["error"]["message"])
    assert earliest, told
    assert (await door.ask("GET", "/v1/batches"))[1]["data"] == [], "it is as if it had never been asked for"
    status, batch = await door.create(file, completion_window=earliest[1], headers=key)
    assert (status, batch["status"]) == (200, "in_progress")


@pytest.mark.parametrize("lives", ["3599", "2592001", "-1", "1e9", ""])
async def test_a_files_lifetime_has_bounds(door: Door, lives: str) -> None:
    asked = {"expires_after[anchor]": "created_at", "expires_after[seconds]": lives}
    status, told = await door.upload(LINE, **asked)
    assert (status, told["error"]["param"]) == (400, "expires_after.seconds")
    status, file = await door.upload(LINE, **asked | {"expires_after[seconds]": "3600"})
    assert (status, file["expires_at"] - file["created_at"]) == (200, 3600)
    assert list((door.lane.blobs.folder).glob("*.part")) == [], "nothing is left of what was refused"


async def test_lists_come_in_pages_to_their_end(door: Door) -> None:
    made = [(await door.upload(LINE))[1]["id"] for _ in range(5)]
    seen: list[str] = []
    after = ""
    while True:
        _, page = await door.ask("GET", f"/v1/files?limit=2&order=asc&after={after}")
        seen += [f["id"] for f in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert seen == made
    assert [f["id"] for f in (await door.ask("GET", "/v1/files"))[1]["data"]] == made[::-1]
    _, none = await door.ask("GET", "/v1/files?purpose=batch_output")
    assert none["data"] == [] and none["has_more"] is False and none["first_id"] is None
    for query, param in (
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=10001", "limit"),
        ("order=up", "order"),
    ):
        status, told = await door.ask("GET", f"/v1/files?{query}")
        assert (status, told["error"]["param"]) == (400, param)
    assert (await door.ask("GET", "/v1/batches?after=batch_none"))[0] == 404


async def test_what_is_anothers_is_not_there(door: Door) -> None:
    file = (await door.upload(LINE))[1]["id"]
    batch = (await door.create(file))[1]["id"]
    for method, path in (
        ("GET", f"/v1/files/{file}"), ("GET", f"/v1/files/{file}/content"), ("DELETE", f"/v1/files/{file}"),
        ("GET", f"/v1/files?after={file}"), ("GET", f"/v1/batches/{batch}"), ("POST", f"/v1/batches/{batch}/cancel"),
        ("GET", f"/v1/batches?after={batch}"),
    ):  # fmt: skip
        status, told = await door.ask(method, path, tenant="another")
        assert status == 404 and told["error"]["code"] in ("file_not_found", "batch_not_found"), path
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    assert (await door.ask("POST", "/v1/batches", tenant="another", json=asked))[0] == 404
    assert (await door.ask("GET", f"/v1/files/{file}"))[0] == 200


async def test_a_batch_is_cancelled_once_and_its_file_is_kept_until_then(door: Door) -> None:
    file = (await door.upload(LINE))[1]["id"]
    batch = (await door.create(file))[1]["id"]
    status, told = await door.ask("DELETE", f"/v1/files/{file}")
    assert (status, told["error"]["code"]) == (409, "file_in_use") and batch in told["error"]["message"]
    for _ in range(2):
        status, told = await door.ask("POST", f"/v1/batches/{batch}/cancel")
        assert (status, told["status"]) == (200, "cancelling") and told["cancelling_at"]
    await door.lane.call(door.lane.store.finish, batch, "cancelled", 2e9, None, None)
    status, told = await door.ask("POST", f"/v1/batches/{batch}/cancel")
    assert (status, told["status"]) == (200, "cancelled") and told["cancelled_at"] == 2_000_000_000
    assert (await door.ask("DELETE", f"/v1/files/{file}"))[1] == {
        "id": file,
        "object": "file",
        "deleted": True,
    }
    assert (await door.ask("GET", f"/v1/files/{file}/content"))[0] == 404
    status, told = await door.create((await door.upload(b"no json"))[1]["id"])
    status, told = await door.ask("POST", f"/v1/batches/{told['id']}/cancel")
    assert (status, told["error"]["code"]) == (409, "batch_not_cancellable")


async def test_so_many_batches_and_a_repeated_question_is_one(door: Door) -> None:
    file = (await door.upload(LINE))[1]["id"]
    made = [(await door.create(file, headers={"idempotency-key": f"k{n}"}))[1]["id"] for n in range(4)]
    status, told = await door.create(file, headers={"idempotency-key": "k9"})
    assert (status, told["error"]["code"]) == (429, "too_many_batches")
    status, told = await door.create(file, headers={"idempotency-key": "k2"})
    assert (status, told["id"]) == (200, made[2]), "asked again, not one more"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b'{"endpoint": "' + b"x" * 2**20 + b'"}', "application/json", 413),
    ],
)
async def test_a_body_that_is_none_is_refused(door: Door, body: bytes, kind: str, status: int) -> None:
    found, told = await door.ask("POST", "/v1/batches", data=body, headers={"content-type": kind})
    assert found == status and told["error"]["message"] and told["error"]["code"]


async def test_a_form_that_is_none_is_refused_and_leaves_nothing(door: Door) -> None:
    status, told = await door.ask("POST", "/v1/files", json={"purpose": "batch"})
    assert (status, told["error"]["code"]) == (415, "no_form")
    status, told = await door.ask("POST", "/v1/files", data=FormData({"purpose": "batch", "x": "y"}))
    assert status in (400, 415)
    twice = FormData({"purpose": "batch"})
    twice.add_field("file", LINE, filename="a")
    twice.add_field("file", LINE, filename="b")
    status, told = await door.ask("POST", "/v1/files", data=twice)
    assert (status, told["error"]["param"]) == (400, "file")
    assert list(door.lane.blobs.folder.iterdir()) == []
    assert (await door.ask("PUT", "/v1/files"))[0] == 405


PURPOSE = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing of a form",
        b"--b\r\nno headers",
        b"--b\r\nno colon\r\n\r\nbatch\r\n--b--\r\n",
        b"--b\r\nX: " + b"y" * 100_000 + b"\r\n\r\nbatch\r\n--b--\r\n",
        PURPOSE + FILE + b"\r\n" + LINE,
        PURPOSE + b"--b\r\n\r\nno name\r\n--b--\r\n",
        PURPOSE + b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n--b--\r\n",
        PURPOSE + b"--b--\r\n",
    ],
)
@pytest.mark.parametrize("boundary", ["; boundary=b", "", "; boundary="])
async def test_a_form_that_is_broken_is_told_so(door: Door, body: bytes, boundary: str) -> None:
    """None of them is a fault of ours, and nothing of what was sent stays; a file without its end was cut."""
    headers = {"content-type": f"multipart/form-data{boundary}"}
    status, told = await door.ask("POST", "/v1/files", data=body, headers=headers)
    assert status in (400, 415) and told["error"]["message"], told
    assert list(door.lane.blobs.folder.iterdir()) == []
    assert (await door.ask("GET", "/v1/files"))[1]["data"] == []
