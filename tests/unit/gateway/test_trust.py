"""TLS on both sides, and our own key towards the engines."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import Any

from .conftest import make_certificate


def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(*certificate)
    return made


async def test_engines_are_reached_over_tls_with_our_own_key_and_never_the_clients(
    start: Any, engine: Any, certificate: tuple[Path, Path]
) -> None:
    await engine.kill()
    engine.tls, engine.key = context(certificate), "ours"
    await engine.start()
    gateway = await start(engine, engine_key="ours", engine_ca=certificate[0])
    body = {"model": "m", "prompt": "x"}
    for _ in range(2):
        assert (await gateway.post("/v1/completions", body, Authorization="Bearer theirs"))[0] == 200
    assert {headers["authorization"] for _, headers, _ in engine.log} == {"Bearer ours"}


async def test_an_engine_whose_certificate_nobody_vouches_for_gets_nothing(
    start: Any, engine: Any, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    await engine.kill()
    engine.tls = context(certificate)
    await engine.start()
    gateway = await start(engine, engine_ca=make_certificate(tmp_path, "other")[0])
    asked = asyncio.ensure_future(gateway.complete())
    while "TLS: CERTIFICATE" not in str((await gateway.state())["replicas"]):
        await asyncio.sleep(0.01)
    assert not engine.log
    asked.cancel()


async def test_an_engine_that_refuses_our_key_is_the_operators_matter(start: Any, engine: Any) -> None:
    engine.key = "another"
    gateway = await start(engine, engine_key="ours")
    status, _, body = await gateway.complete()
    assert status == 502 and b"upstream_auth" in body and b"ours" not in body
    assert len(engine.log) == 1, "another try is of no use"


async def test_a_renewed_certificate_is_shown_to_new_connections_and_a_broken_one_is_not(
    start: Any, engine: Any, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    gateway = await start(engine, tls_cert=certificate[0], tls_key=certificate[1])

    async def shown() -> str:
        return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", gateway.port))

    def text(cert: Path) -> str:
        return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(cert.read_text()))

    assert await shown() == text(certificate[0])
    new = make_certificate(tmp_path, "new")
    new_text = text(new[0])
    shutil.move(new[1], certificate[1])
    shutil.move(new[0], certificate[0])
    while await shown() != new_text:
        await asyncio.sleep(0.05)
    certificate[0].write_text("broken")
    while not gateway.server.config.errors:
        await asyncio.sleep(0.05)
    assert await shown() == new_text
