"""Stopping while somebody is connected to the control socket is no error."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from seawall.local.control import serve, socket_path


def test_a_client_that_is_connected_at_the_stop_leaves_no_traceback(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    state = tmp_path / "s"
    state.mkdir()

    async def stop_while_connected() -> asyncio.StreamWriter:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        await serve(SimpleNamespace(setup=SimpleNamespace(state_dir=state)))  # type: ignore[arg-type]  # all it needs
        reader, writer = await asyncio.open_unix_connection(socket_path(state))
        writer.write(b"no JSON\n")
        assert b"not JSON" in await reader.readline()
        return writer

    asyncio.run(stop_while_connected())
    assert said == []
