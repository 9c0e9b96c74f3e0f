"""Connections that never finish their TLS handshake leave room for clients, engines and the admin port."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from tests.within import within

from .processes import exchange, gateway_process

SILENT, DESCRIPTORS = 300, 200


async def asked(port: int) -> bytes:
    """The answer that a client gets who does shake hands."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    body = b'{"model":"m","prompt":"x"}'
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    try:
        return await within(reader.read(), 60)
    finally:
        writer.transport.abort()


async def test_who_says_nothing_leaves_room_for_everybody_else(
    engine: Any, spec: str, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(spec)
    cert, key = certificate
    more = ("--tls-cert", str(cert), "--tls-key", str(key))
    shell = f"ulimit -n {DESCRIPTORS}"
    async with gateway_process(file, f"static:{engine.url}", *more, shell=shell) as gateway:
        silent = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(SILENT)]
        try:
            probe = b"GET /readyz HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
            assert (await exchange(gateway.admin_port, probe)).startswith(b"HTTP/1.1 200")
            assert (await asked(gateway.port)).startswith(b"HTTP/1.1 200")
            cut = await within(silent[0][0].read(), 60)
            assert not cut, "the one that has waited the longest went"
        finally:
            for _, writer in silent:
                writer.transport.abort()
        assert await gateway.stop() == 0
