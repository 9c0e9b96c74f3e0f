"""Files that are broken on disk when a gateway dies: certificates, what was used, the audit's place. Its successor goes
on with what was read last, and a spec that takes seconds to read holds nobody up."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.gateway.conftest import FakeEngine, make_certificate
from tests.unit.gateway.keepers import SPEC, kept_gateway, kill
from tests.unit.gateway.processes import Process
from tests.unit.gateway.test_broken_spec import CONFIG_ERRORS, asked, counted
from tests.unit.gateway.turns import turns


async def shown(gateway: Process) -> str:
    """The certificate that a client gets to see; empty: none."""
    try:
        return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", gateway.port), timeout=10)
    except (OSError, ssl.SSLError):
        return ""


def text_of(certificate: tuple[Path, Path]) -> str:
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(certificate[0].read_text()))


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


BREAKS: dict[str, Callable[[tuple[Path, Path]], object]] = {
    "half a certificate": lambda c: half(c[0]),
    "no key": lambda c: c[1].unlink(),
    "another key": lambda c: make_certificate(c[0].parent, "other")[1].replace(c[1]),
}


async def test_a_successor_shows_the_certificate_that_was_read_last(tmp_path: Path) -> None:
    first, second, used = (make_certificate(tmp_path, name) for name in ("first", "second", "used"))
    for new, old in zip(first, used, strict=True):
        shutil.copy(new, old)
    tls = ("--tls-cert", str(used[0]), "--tls-key", str(used[1]))
    async with FakeEngine() as engine, kept_gateway(tmp_path, engine, SPEC, *tls) as (gateway, _):
        assert await shown(gateway) == text_of(first)
        for new, old in zip(second, used, strict=True):
            shutil.copy(new, old)
        while await shown(gateway) != text_of(second):
            await asyncio.sleep(0.05)
        await kill(gateway)  # its parent has read it now, too
        for how, broken in BREAKS.items():
            broken(used)
            await kill(gateway)
            assert await shown(gateway) == text_of(second), how
            assert await counted(gateway, CONFIG_ERRORS) > 0, how
            for good, bad in zip(second, used, strict=True):
                shutil.copy(good, bad)


async def test_no_other_file_ends_a_successor(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    authority, _ = make_certificate(tmp_path)
    files = ("--usage", str(tmp_path / "u.json"), "--audit", str(tmp_path / "log" / "a.log"))
    async with (
        FakeEngine() as engine,
        kept_gateway(tmp_path, engine, SPEC, *files, "--engine-ca", str(authority)) as (gateway, _),
    ):
        assert await asked(gateway) == b"200"
        authority.write_text("broken")  # errors of the first of them are carried over to the next
        for text in ("[" * 100_000, '{"m": 3}'):
            (tmp_path / "u.json").write_text(text)
            shutil.rmtree(tmp_path / "log", ignore_errors=True)
            await kill(gateway)
            assert await asked(gateway) == b"200", text[:10]
        assert await counted(gateway, CONFIG_ERRORS) >= 2
        (tmp_path / "log").mkdir()
        while not (tmp_path / "log" / "a.log").exists() or not (tmp_path / "log" / "a.log").read_bytes():
            assert await asked(gateway) == b"200"
            await asyncio.sleep(0.05)


async def test_a_spec_that_takes_long_to_read_holds_nobody_up(start: Any, engine: FakeEngine) -> None:
    gateway = await start(engine)
    (spec,) = gateway.server.settings.specs
    config = gateway.server.config
    good = spec.read_text()
    async with turns() as loop:
        spec.write_text(good + "  notes: [" + "{a: 1}, " * 30_000 + "]\n")
        gateway.server.reload()
        while not config.errors:
            await asyncio.sleep(0.01)
    assert loop.longest < 0.1, "the loop was held by the reader"
    assert (await gateway.complete())[0] == 200
