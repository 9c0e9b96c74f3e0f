"""KEDA's client against our server: bytes as its public proto has them, plain and with certificates, and its failures.

The client's bytes are written by hand here, from the proto's field numbers, and not by the table that the server is
made of: the two must agree.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.within import within

from seawall.drivers import keda
from seawall.errors import InputError


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of a message below 128 bytes."""
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


def ref(name: str, namespace: str, **metadata: str) -> bytes:
    entries = [field(3, field(1, k.encode()) + field(2, v.encode())) for k, v in metadata.items()]
    return field(1, name.encode()) + field(2, namespace.encode()) + b"".join(entries)


class Said:
    """Answers as the test wants them."""

    def __init__(self) -> None:
        self.asked: list[keda.KedaQuestion] = []
        self.count: int | keda.Blind = 7
        self.states: asyncio.Queue[bool] = asyncio.Queue()

    async def replicas(self, asked: keda.KedaQuestion) -> int:
        self.asked.append(asked)
        if isinstance(self.count, keda.Blind):
            raise self.count
        return self.count

    async def active(self, asked: keda.KedaQuestion) -> bool:
        if "fleet" not in asked.trigger:
            raise InputError("the trigger names no fleet.", "Render it again.")
        return True

    async def activity(self, asked: keda.KedaQuestion) -> AsyncIterator[bool]:
        while True:
            yield await self.states.get()


@asynccontextmanager
async def served(said: Said, tls: keda.Tls | None = None) -> AsyncIterator[int]:
    server, port = await keda.serve(said, "127.0.0.1:0", tls)
    try:
        yield port
    finally:
        await server.stop(0)


def raw(value: bytes) -> bytes:
    return value


def unary(channel: Any, method: str) -> Any:
    return channel.unary_unary(f"/externalscaler.ExternalScaler/{method}", raw, raw)


async def test_the_count_is_told_as_whole_number_and_as_float() -> None:
    said = Said()
    async with served(said) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = field(1, ref("chat", "llm", fleet="chat", policy="{}")) + field(2, b"replicas")
        answer = await unary(channel, "GetMetrics")(request)
    value = field(1, b"replicas") + b"\x10\x07" + b"\x19" + struct.pack("<d", 7.0)
    assert answer == field(1, value)
    assert said.asked == [keda.KedaQuestion("llm", "chat", {"fleet": "chat", "policy": "{}"})]


async def test_the_target_is_one_replica_per_replica() -> None:
    async with served(Said()) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await unary(channel, "GetMetricSpec")(ref("chat", "llm"))
        active = await unary(channel, "IsActive")(ref("chat", "llm", fleet="chat"))
    spec = field(1, b"replicas") + b"\x10\x01" + b"\x19" + struct.pack("<d", 1.0)
    assert answer == field(1, spec)
    assert active == b"\x08\x01"


async def test_zero_is_an_answer_and_not_a_failure() -> None:
    said = Said()
    said.count = 0
    async with served(said) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await unary(channel, "GetMetrics")(field(1, ref("chat", "llm")))
    assert answer == field(1, field(1, b"replicas"))


async def test_activity_is_pushed_when_it_changes() -> None:
    said = Said()
    async with served(said) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_stream("/externalscaler.ExternalScaler/StreamIsActive", raw, raw)(
            ref("chat", "llm", fleet="chat")
        )
        for state, wire in ((True, b"\x08\x01"), (False, b""), (True, b"\x08\x01")):
            said.states.put_nowait(state)
            assert await call.read() == wire
        call.cancel()


async def test_who_is_blind_fails_so_that_keda_falls_back_and_a_bad_trigger_is_told() -> None:
    said = Said()
    said.count = keda.Blind("no gateway answers.", "Look at them.")
    async with served(said) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as blind:
            await unary(channel, "GetMetrics")(field(1, ref("chat", "llm")))
        with pytest.raises(grpc.aio.AioRpcError) as bad:
            await unary(channel, "IsActive")(ref("chat", "llm"))
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await unary(channel, "StreamMetricSpec")(ref("chat", "llm"))
        with pytest.raises(grpc.aio.AioRpcError):
            await unary(channel, "GetMetrics")(b"\xff\xff\xff")
    assert (blind.value.code(), blind.value.details()) == (
        grpc.StatusCode.UNAVAILABLE,
        "no gateway answers. Look at them.",
    )
    assert bad.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


def certificate(folder: Path, name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """Writes NAME.crt and NAME.key, signed by the issuer (None: by itself)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(private)
    return made, key


async def test_with_certificates_only_who_shows_one_is_answered(tmp_path: Path) -> None:
    ca = certificate(tmp_path, "ca")
    certificate(tmp_path, "tls", ca)
    certificate(tmp_path, "keda", ca)
    files = {n: (tmp_path / n).read_bytes() for n in ("ca.crt", "keda.crt", "keda.key")}
    known = grpc.ssl_channel_credentials(files["ca.crt"], files["keda.key"], files["keda.crt"])
    stranger = grpc.ssl_channel_credentials(files["ca.crt"])
    async with served(Said(), keda.Tls(tmp_path)) as port:
        address = f"127.0.0.1:{port}"
        async with grpc.aio.secure_channel(address, known) as channel:
            assert await unary(channel, "IsActive")(ref("chat", "llm", fleet="chat")) == b"\x08\x01"
        for channel in (grpc.aio.secure_channel(address, stranger), grpc.aio.insecure_channel(address)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await unary(channel, "IsActive")(ref("chat", "llm", fleet="chat"))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            await channel.close()


async def test_a_certificate_that_is_renewed_serves_the_next_connection(tmp_path: Path) -> None:
    """By the very CA too; what was connected goes on, and a pair that does not fit changes nothing."""
    said = Said()

    def client(folder: Path, port: int) -> Any:
        ca, key, own = ((folder / n).read_bytes() for n in ("ca.crt", "keda.key", "keda.crt"))
        return grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(ca, key, own))

    def issued(folder: Path) -> Path:
        folder.mkdir()
        ca = certificate(folder, "ca")
        certificate(folder, "tls", ca)
        certificate(folder, "keda", ca)
        return folder

    ask = ref("chat", "llm", fleet="chat")
    old, new, live = issued(tmp_path / "old"), issued(tmp_path / "new"), tmp_path / "live"
    live.mkdir()

    def written(folder: Path, *names: str) -> None:
        for name in names or ("ca.crt", "tls.crt", "tls.key"):
            (live / name).write_bytes((folder / name).read_bytes())

    written(old)
    async with served(said, keda.Tls(live)) as port, client(old, port) as before:
        stream = before.unary_stream("/externalscaler.ExternalScaler/StreamIsActive", raw, raw)(ask)
        said.states.put_nowait(True)
        assert await stream.read() == b"\x08\x01"
        written(new)
        async with client(new, port) as after:
            assert await unary(after, "IsActive")(ask) == b"\x08\x01"
        async with client(old, port) as stranger:
            with pytest.raises(grpc.aio.AioRpcError):
                await unary(stranger, "IsActive")(ask)
        said.states.put_nowait(False)
        assert await stream.read() == b"", "what is open stays open"
        written(old, "tls.crt")  # of another key
        async with client(new, port) as after:
            assert await unary(after, "IsActive")(ask) == b"\x08\x01"
        stream.cancel()


class Quiet(Said):
    """Tells once that it is active, and then nothing for hours."""

    async def activity(self, asked: keda.KedaQuestion) -> AsyncIterator[bool]:
        yield True
        await asyncio.Event().wait()


async def test_streams_that_stay_open_leave_room_for_questions() -> None:
    """One for each ScaledObject, of two KEDAs: the one that leads, and the one that did."""
    count, ask = 300, ref("chat", "llm", fleet="chat")
    async with served(Quiet()) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_stream("/externalscaler.ExternalScaler/StreamIsActive", raw, raw)
        streams = [method(ask) for _ in range(2 * count)]
        answers = await within(asyncio.gather(*(s.read() for s in streams)), 60)
        assert answers == [b"\x08\x01"] * len(streams)
        assert await unary(channel, "GetMetrics")(field(1, ref("chat", "llm"))) != b""
        for stream in streams:
            stream.cancel()


async def test_keda_asks_the_next_scaler_when_this_one_is_gone() -> None:
    """A channel outlives its server: refused while there is none, as KEDA counts failures, and answered by the next."""
    said = Said()
    server, port = await keda.serve(said, "127.0.0.1:0", None)
    request = field(1, ref("chat", "llm"))
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.max_reconnect_backoff_ms", 200)]
    ) as channel:
        stream = channel.unary_stream("/externalscaler.ExternalScaler/StreamIsActive", raw, raw)(
            ref("chat", "llm", fleet="chat")
        )
        said.states.put_nowait(True)
        assert await stream.read() == b"\x08\x01"
        await server.stop(0)
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await unary(channel, "GetMetrics")(request)
        assert gone.value.code() == grpc.StatusCode.UNAVAILABLE
        server, _ = await keda.serve(said, f"127.0.0.1:{port}", None)
        try:
            assert await unary(channel, "GetMetrics")(request, wait_for_ready=True, timeout=30) != b""
        finally:
            await server.stop(0)


async def test_a_missing_certificate_and_a_taken_port_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tls\.key"):
        await keda.serve(Said(), "127.0.0.1:0", keda.Tls(tmp_path))
    async with served(Said()) as port:
        with pytest.raises(InputError, match=f"cannot listen at 127.0.0.1:{port}"):
            await keda.serve(Said(), f"127.0.0.1:{port}", None)
