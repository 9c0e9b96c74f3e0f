"""Keys, tenants, rates, quotas, audit lines, usage."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from seawall.cli.keys import command
from seawall.decide.route.meter import Meter
from seawall.errors import InputError
from seawall.gateway.tell import keyring
from seawall.gateway.tell.audit import Audit
from seawall.gateway.tell.ended import Ended
from seawall.gateway.tell.keyring import Key, KeyRing, Keys
from seawall.gateway.tell.tenants import Tenant


def cli(*args: str) -> Any:
    return CliRunner().invoke(command, list(args))


def test_a_key_is_shown_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = json.loads(cli("add", "team-a", "--file", str(file), "--models", "m,n", "--json").output)
    assert made["key"] not in file.read_text() and made["key"].rpartition("-")[2] not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    listed = json.loads(cli("list", "--file", str(file), "--json").output)["keys"]
    assert listed[0]["tenant"] == "team-a" and listed[0]["models"] == ["m", "n"] and "sha256" not in listed[0]
    assert cli("revoke", made["id"], "--file", str(file)).exit_code == 0
    unknown = cli("revoke", "nope", "--file", str(file)).exception
    assert keyring.read(file).keys == ()
    assert isinstance(unknown, InputError) and "nope" in str(unknown)


def test_a_key_says_where_it_goes_and_a_mistyped_path_makes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    said = CliRunner(env={"SEAWALL_STATE": str(tmp_path / "none")}).invoke(
        command, ["add", "a", "--file", str(file)]
    )
    assert "ADDRESS/v1/models" in said.output and "8000" not in said.output
    for args in (["add", "a", "--file", "none/keys.json"], ["revoke", "x", "--file", "nokeys.json"]):
        done = subprocess.run(
            [sys.executable, "-m", "seawall", "keys", *args], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 2 and "there is no" in done.stderr, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_gateway_without_its_keys_file_does_not_start(tmp_path: Path) -> None:
    spec = str(Path(__file__).parents[3] / "examples" / "smollm2.yaml")
    args = [
        "gateway",
        spec,
        "--keys",
        "nope.json",
        "--discovery",
        "static:http://127.0.0.1:9",
        "--listen",
        "127.0.0.1:0",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "seawall", *args], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "nope.json: there is no such keys file" in done.stderr and "seawall keys add" in done.stderr


def test_only_the_right_secret_opens_and_not_after_it_expired() -> None:
    ring = KeyRing()
    secret, key = keyring.make("a", expires=1000)
    ring.replace(Keys((key,)))
    good = secret.encode()
    assert ring.find(good, 999) == key and ring.find(good, 1000) is None
    for bad in (
        good[:-1],
        good + b"x",
        b"",
        b"sk-sw-",
        b"sk-sw-0-",
        good.swapcase(),
        b"\xff" * 40,
        b"x" * 10_000,
    ):
        assert ring.find(bad, 0) is None


@pytest.mark.parametrize("text", [b"[", b"[]", b'{"keys":[{"id":1}]}', b"\xff", b"[" * 5000])
def test_a_broken_keys_file_is_refused_with_a_cure(text: bytes) -> None:
    with pytest.raises(InputError, match="seawall keys"):
        keyring.parse(text)


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 500), st.booleans()), max_size=80))
def test_a_meter_never_grants_more_than_a_burst_and_the_rate(asks: list[tuple[float, int, bool]]) -> None:
    """Nor does the one of the process that follows on a killed one."""
    meter, now, granted, tokens = Meter(10, 600), 0.0, 0, 0
    for pause, cost, killed in asks:
        if killed and (level := meter.level) is not None:
            meter = Meter()
            meter.carry(level)
            meter.configure(10, 600, None)
        now += pause
        limited = meter.check(cost, now)
        if limited is None:
            meter.take(cost)
            granted, tokens = granted + 1, tokens + cost
        else:
            assert limited.wait_s > 0
        assert granted <= 10 + now * 10 / 60 + 1e-6 and tokens <= 600 + now * 600 / 60 + 500


def test_what_was_estimated_too_high_is_given_back() -> None:
    meter = Meter(tokens_per_minute=1000, quota=1500)
    assert meter.check(1000, 0.0) is None
    meter.take(1000)
    limited = meter.check(600, 0.0)
    assert limited is not None and limited.what == "token quota"
    meter.settle(1000, 100)
    assert meter.check(600, 0.0) is None and meter.used == 100


@pytest.fixture
def tenants_spec(spec: str, tmp_path: Path) -> str:
    tenants = (
        "tenants: [{name: a, requestsPerMinute: 3}, {name: b, models: [other]}, {name: c, tokenQuota: 15}]"
    )
    prices = "promptPrice: 1, completionPrice: 10"
    return spec.replace("gateway: {", f"gateway: {{{tenants}, {prices}, keysFile: {tmp_path}/keys.json, ")


async def test_tenants_are_told_apart_limited_and_accounted(
    start: Any, engine: Any, tenants_spec: str, tmp_path: Path
) -> None:
    file, audit = tmp_path / "keys.json", tmp_path / "audit.log"
    keys = {}
    for tenant in ("a", "b", "c", "stranger"):
        keys[tenant], key = keyring.make(tenant)
        keyring.change(file, add=key)
    gateway = await start(engine, spec=tenants_spec, audit=str(audit), usage=tmp_path / "usage.json")

    async def ask(tenant: str, **more: Any) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {keys[tenant]}"} if tenant else {}
        body = {"model": "m", "prompt": "a secret prompt", "max_tokens": 2, **more}
        status, _, answer = await gateway.post("/v1/completions", body, **headers)
        return status, json.loads(answer).get("error", {}).get("code", "")

    assert await ask("") == (401, "invalid_api_key")
    assert await ask("stranger") == (401, "invalid_api_key")
    assert await ask("b") == (403, "model_not_allowed")
    assert [(await ask("a"))[0] for _ in range(4)] == [200, 200, 200, 429]
    assert await ask("c", max_tokens=20) == (429, "insufficient_quota"), (
        "the estimate is over the quota of 15"
    )
    assert (await gateway.get("/v1/models"))[0] == 401
    page = (await gateway.get("/metrics", admin=True))[2].decode()
    assert 'seawall_tenant_tokens_total{fleet="m",tenant="a",kind="prompt"} 21' in page
    assert 'seawall_tenant_cost_usd_total{fleet="m",tenant="a"} 0.000111' in page

    assert keyring.change(file, revoke=keys["a"].split("-")[2]) is not None
    for _ in range(100):
        if await ask("a") == (401, "invalid_api_key"):
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the revoked key still works")

    gateway.server.stop()
    await gateway.task
    lines = [json.loads(x) for x in audit.read_text().splitlines()]
    assert [(x["tenant"], x["outcome"], x["status"]) for x in lines] == [("a", "finished", 200)] * 3
    assert {"id", "replica", "ms", "tokens_in", "tokens_out", "key", "model"} <= set(lines[0])
    text = audit.read_text() + page
    assert "secret prompt" not in text and not any(k in text for k in keys.values())
    saved = json.loads((tmp_path / "usage.json").read_text())["m"]["a"]
    assert saved["prompt"] == 21 and saved["completion"] == 9


async def test_tenants_without_any_keys_file_let_nobody_in(start: Any, engine: Any, spec: str) -> None:
    gateway = await start(engine, spec=spec.replace("gateway: {", "gateway: {tenants: [{name: a}], "))
    assert (await gateway.complete())[0] == 401


async def test_audit_lines_are_json_whatever_the_names(tmp_path: Path) -> None:
    audit = Audit(str(tmp_path / "a"))
    who = Tenant('t"'), Key(id="k", tenant="t", sha256="")
    how = "finished", 200, "x", "r0", 1.0, 0.5, 1, 2, 0.5, 1, 0, True, 3
    audit.note(Ended(b"r", b"/v1/x", 'q"\\\n', *who, {}, "m", *how))
    line = msgspec.json.decode(audit._lines[0])
    assert line["model"] == 'q"\\\n' and line["first_ms"] == 500.0 and line["tenant"] == 't"'
    assert abs(line["time"] - time.time()) < 60


@pytest.mark.parametrize("what", ["a pipe", "a folder", "a device without end"])
def test_a_keys_file_that_is_no_file_is_told_and_not_waited_for(what: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    if what == "a pipe":
        os.mkfifo(path, 0o600)
    elif what == "a folder":
        path.mkdir(0o700)
    else:
        path = Path("/dev/zero")
    with pytest.raises(InputError, match=r"is no file|Is a directory"):
        keyring.read(path)


def test_a_keys_file_is_judged_by_what_is_read(tmp_path: Path) -> None:
    """It grows, and others may read it: what is looked at is the file that was opened, not the name."""
    path = tmp_path / "keys.json"
    path.write_bytes(b" " * (keyring.MAX_BYTES + 1))
    path.chmod(0o600)
    with pytest.raises(InputError, match="larger than"):
        keyring.read(path)
    path.write_text('{"keys": []}')
    path.chmod(0o644)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert keyring.read(link).keys == () and path.stat().st_mode & 0o777 == 0o600
