"""LoRA adapters that are loaded and unloaded while the engine runs: the answers, and what is served meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.contract.conftest import Server

from seawall.engines.vllm.client import EngineClient
from seawall.errors import EngineError
from seawall.testing.lora import random_adapter

pytestmark = pytest.mark.timeout(1000)
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
SMOLLM2 = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`poet`, an adapter; `wide`, one of a rank that the engine does not take; `empty`, none."""
    made = tmp_path_factory.mktemp("lora")
    random_adapter(made / "poet", SMOLLM2)
    random_adapter(made / "wide", {**SMOLLM2, "num_hidden_layers": 1}, rank=64)
    (made / "empty").mkdir()
    return made


def refused(server: Server, path: str, **body: Any) -> tuple[int, str, str]:
    answer = server.post(path, body)
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == answer.status
    return answer.status, error["type"], error["message"]


def test_an_adapter_is_another_model_until_it_is_unloaded(server: Server, folder: Path) -> None:
    def says(model: str) -> str:
        body = {"model": model, "prompt": "The capital of France is", "max_tokens": 6, "temperature": 0}
        return str(server.post("/v1/completions", body).json["choices"][0]["text"])

    def listed() -> dict[str, tuple[str, str]]:
        rows = server.ask("GET", "/v1/models").json["data"]
        return {r["id"]: (r["root"], r["parent"]) for r in rows if r["parent"]}

    plain = says(server.model)
    answer = server.post(LOAD, {"lora_name": "poet", "lora_path": str(folder / "poet")})
    assert (answer.status, answer.body) == (200, b"Success: LoRA adapter 'poet' added successfully.")
    assert "content-type" not in answer.headers
    assert list(listed()) == ["poet"]
    assert listed()["poet"][0] == str(folder / "poet")
    if server.kind != "sim":
        assert says("poet") != plain
    assert says(server.model) == plain
    status, kind, message = refused(server, LOAD, lora_name="poet", lora_path=str(folder / "poet"))
    assert (status, kind) == (400, "InvalidUserInput")
    assert message.startswith("The lora adapter 'poet' has already been loaded.")
    answer = server.post(UNLOAD, {"lora_name": "poet"})
    assert (answer.status, answer.body) == (200, b"Success: LoRA adapter 'poet' removed successfully.")
    assert not listed()
    gone = server.post("/v1/completions", {"model": "poet", "prompt": "x", "max_tokens": 1})
    assert gone.status == 404


def test_what_cannot_be_loaded_says_why(server: Server, folder: Path) -> None:
    def load(name: str, path: str) -> tuple[int, str, str]:
        return refused(server, LOAD, lora_name=name, lora_path=path)

    missing = "Loading lora none failed: No adapter found for <path>"
    assert load("none", str(folder / "empty")) == (404, "NotFoundError", missing)
    wide = "Call to add_lora method failed: LoRA rank 64 is greater than max_lora_rank 16."
    assert load("wide", str(folder / "wide")) == (500, "InternalServerError", wide)
    base = f"The lora adapter '{server.model}' conflicts with a served base model."
    assert load(server.model, str(folder / "poet")) == (400, "InvalidUserInput", base)
    both = "Both 'lora_name' and 'lora_path' must be provided."
    assert load("", "") == (400, "InvalidUserInput", both)


def test_what_is_not_asked_for_rightly_is_refused(server: Server) -> None:
    def lacking(name: str, count: int) -> str:
        row = {"type": "missing", "loc": f"body.{name}", "msg": "Field required"}
        return str({**row, "input": f"<dict of {count} items>"})

    one = f"1 validation error:\n  {lacking('lora_path', 1)}"
    assert refused(server, LOAD, lora_name="x") == (400, "Bad Request", one)
    two = f"2 validation errors:\n  {lacking('lora_name', 0)}\n  {lacking('lora_path', 0)}"
    assert refused(server, LOAD) == (400, "Bad Request", two)
    assert refused(server, UNLOAD)[1] == "Bad Request"
    needed = "'lora_name' needs to be provided to unload a LoRA adapter."
    assert refused(server, UNLOAD, lora_name="") == (400, "InvalidUserInput", needed)
    nobody = "The lora adapter 'nobody' cannot be found."
    assert refused(server, UNLOAD, lora_name="nobody") == (404, "NotFoundError", nobody)


async def test_our_client_loads_lists_and_unloads(server: Server, folder: Path) -> None:
    client, url = EngineClient(), f"http://127.0.0.1:{server.port}"
    try:
        await client.load_adapter(url, "mine", str(folder / "poet"))
        assert await client.adapters(url) == {"mine": str(folder / "poet")}
        with pytest.raises(EngineError, match=r"it answered 404: .*No adapter found"):
            await client.load_adapter(url, "none", str(folder / "empty"))
        await client.unload_adapter(url, "mine")
        assert await client.adapters(url) == {}
    finally:
        await client.close()
