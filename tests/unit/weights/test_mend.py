"""What happens to weights after they were pulled, and to pulls that meet a source or a disk at its worst."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from seawall.errors import CheckFailed, InputError, SourceError
from seawall.weights.fetch import told_of_disk
from seawall.weights.lockfile import read_lock
from seawall.weights.pin import pin
from seawall.weights.pull import Order, check, check_command, is_complete, pull, pull_command
from seawall.weights.sources.http import get_small

from .conftest import safetensors
from .hub_double import REVISION, HubDouble
from .test_pull import HF, env, order

SMALL = {"config.json": b"{}", "model.safetensors": safetensors(3 * 2**20)}


def damage(file: Path, same_time: bool) -> None:
    """One bit, as a disk or a careless hand does it."""
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    if same_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", SMALL)
def test_a_file_that_was_changed_is_pulled_again(tmp_path: Path, name: str) -> None:
    to = tmp_path / "m"
    with HubDouble(SMALL) as hub:
        pull(order(to), env(hub, tmp_path))
        damage(to / name, same_time=False)
        done = pull(order(to), env(hub, tmp_path))
    assert not done.already
    assert done.downloaded_bytes == len(SMALL[name])
    assert (to / name).read_bytes() == SMALL[name]
    check(to, done.lock)


def test_what_check_finds_wrong_is_mended_though_size_and_time_say_nothing(tmp_path: Path) -> None:
    to = tmp_path / "m"
    with HubDouble(SMALL) as hub:
        pull(order(to), env(hub, tmp_path))
        lock = read_lock(to / "seawall.lock")
        damage(to / "model.safetensors", same_time=True)
        with pytest.raises(CheckFailed, match="wrong sha256") as e:
            check(to, lock)
        assert f"seawall pull hf://org/model --to {to}" in e.value.cure
        assert not is_complete(to, lock)
        done = pull(order(to), env(hub, tmp_path))
        assert done.downloaded_bytes == len(SMALL["model.safetensors"])
        check(to, lock)
        assert is_complete(to, lock)


def test_touching_a_file_downloads_nothing(tmp_path: Path) -> None:
    to = tmp_path / "m"
    with HubDouble(SMALL) as hub:
        pull(order(to), env(hub, tmp_path))
        os.utime(to / "model.safetensors", ns=(1, 1))
        assert pull(order(to), env(hub, tmp_path)).downloaded_bytes == 0
        asked = hub.seen.total()
        assert pull(order(to), env(hub, tmp_path)).already
        assert hub.seen.total() == asked, "what was read again is remembered"


def test_the_printed_commands_work_with_a_lock_elsewhere(tmp_path: Path) -> None:
    to, lock = tmp_path / "my models" / "m", tmp_path / "pin.lock"

    def seawall(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "seawall", *args],
            env=os.environ | env(hub, tmp_path),
            capture_output=True,
            text=True,
        )

    with HubDouble(SMALL) as hub:
        first = seawall("pull", HF, "--to", str(to), "--lock", str(lock))
        assert REVISION in first.stdout, "a revision is printed whole, to be pasted"
        printed = first.stdout.split("Next: ")[1].strip()
        assert printed == check_command(to, lock)
        assert seawall(*shlex.split(printed)[1:]).returncode == 0
        damage(to / "config.json", same_time=True)
        failed = seawall(*shlex.split(printed)[1:])
        assert failed.returncode == 1
        cure = failed.stderr.strip().splitlines()[-1].partition(": ")[2]
        assert cure == pull_command(read_lock(lock), to, lock)
        assert seawall(*shlex.split(cure)[1:]).returncode == 0
        assert seawall(*shlex.split(printed)[1:]).returncode == 0


def test_a_lock_without_the_weights(tmp_path: Path) -> None:
    with HubDouble(SMALL) as hub:
        lock, already = pin(Order(HF, tmp_path, tmp_path / "m.lock"), env(hub, tmp_path))
        assert not already
        assert hub.served_bytes < 2**20, "the weights were not downloaded"
        pull(order(tmp_path / "m"), env(hub, tmp_path))
        assert (
            read_lock(tmp_path / "m" / "seawall.lock").text()
            == lock.text()
            == (tmp_path / "m.lock").read_text()
        )
        assert pin(Order(HF, tmp_path, tmp_path / "m.lock"), env(hub, tmp_path)) == (lock, True)
    with HubDouble({**SMALL, "config.json": b"[]"}) as hub:
        before = (tmp_path / "m.lock").read_bytes()
        pinned = Order(HF, tmp_path / "n", tmp_path / "m.lock")
        with pytest.raises(SourceError):
            pull(pinned, env(hub, tmp_path))
        assert (tmp_path / "m.lock").read_bytes() == before


def test_a_lock_of_a_folder_here_and_of_a_source_that_says_no_hashes(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name, data in SMALL.items():
        (source / name).write_bytes(data)
    lock, _ = pin(Order(f"file://{source}", tmp_path, tmp_path / "a.lock"), {})
    assert {f.path for f in lock.files} == set(SMALL)
    pull(Order(f"file://{source}", tmp_path / "m", tmp_path / "a.lock"), {})
    check(tmp_path / "m", lock)
    with HubDouble({"model.gguf": b"x" * 5000}) as hub:
        one = f"{hub.url}/folder/model.gguf"
        assert pin(Order(one, tmp_path, tmp_path / "b.lock"), {})[0].total_bytes == 5000
        with pytest.raises(InputError, match="does not say the sha256"):
            pin(Order(one, tmp_path, tmp_path / "c.lock"), {}, most_read=100)


FLEET = """apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: {name}}}
spec:
  model: {{source: "hf://org/model", config: {{preset: tiny}}}}
  hardware: {{gpu: H100-80GB, cloud: gke}}
  cache: {{storageClass: fast, size: 50Gi}}
"""


def test_from_plan_to_manifests_without_a_download(tmp_path: Path) -> None:
    """`plan` names the command that makes what `render` asks for."""
    config = json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 1024, "vocab_size": 32000,
        "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
    })  # fmt: skip
    fleet = FLEET.replace("{{preset: tiny}}", config)
    docs = [fleet.replace("{{", "{").replace("}}", "}").replace("{name}", n) for n in ("one", "two")]
    (tmp_path / "one.yaml").write_text(docs[0])
    (tmp_path / "both.yaml").write_text("---\n".join(docs))

    def seawall(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "seawall", *args], cwd=tmp_path, env=os.environ | env(hub, tmp_path),
            capture_output=True, text=True,
        )  # fmt: skip

    with HubDouble(SMALL) as hub:
        said = seawall("plan", "one.yaml")
        assert "Next: seawall pull one.yaml --lock-only" in said.stdout, said.stderr + said.stdout
        refused = seawall("render", "one.yaml")
        assert refused.returncode == 2
        assert "--lock-only" in refused.stderr
        assert seawall("pull", "one.yaml", "--lock-only").stdout.endswith(
            "Next: seawall render one.yaml -o deploy/\n"
        )
        assert (tmp_path / "one.lock").exists()
        assert "Next: seawall render one.yaml" in seawall("plan", "one.yaml").stdout
        rendered = seawall("render", "one.yaml", "-o", "deploy/")
        assert rendered.returncode == 0, rendered.stderr
        both = json.loads(seawall("pull", "both.yaml", "--lock-only", "--json").stdout)
        assert [(row["lock"], row["already"]) for row in both["locks"]] == [
            ("one.lock", True),
            ("two.lock", False),
        ]
        assert hub.served_bytes < 2**20


@pytest.mark.parametrize("uri", [HF, "WEB/folder/model.safetensors", "WEB/folder/", "oci://HOST/models/m:v1"])
def test_a_source_that_redirects_in_a_circle_is_told(tmp_path: Path, uri: str) -> None:
    with HubDouble(SMALL, ["circle"], rate=1.0) as hub:
        source = uri.replace("WEB", hub.url).replace("HOST", hub.url.removeprefix("http://"))
        with pytest.raises(SourceError) as e:
            pull(order(tmp_path / "m", source), env(hub, tmp_path))
    assert e.value.cure
    assert not (tmp_path / "m").exists()


def test_a_file_that_changes_while_it_is_pulled_is_not_made_of_two_halves(tmp_path: Path) -> None:
    """Between the two ranges of one file its server has another version of the same size."""
    big = {"weights.gguf": b"a" * (40 * 2**20)}
    with HubDouble(big) as hub:
        hub.on_range = lambda n: hub.files.update({"weights.gguf": b"b" * (40 * 2**20)}) if n == 2 else None
        with pytest.raises(SourceError, match="changed at its source"):
            pull(order(tmp_path / "m", f"{hub.url}/folder/weights.gguf"), env(hub, tmp_path))
        assert not (tmp_path / "m" / "weights.gguf").exists()
        hub.on_range = None
        pull(order(tmp_path / "m", f"{hub.url}/folder/weights.gguf"), env(hub, tmp_path))
    assert (tmp_path / "m" / "weights.gguf").read_bytes() == b"b" * (40 * 2**20)


@contextmanager
def _limit(size: int) -> Iterator[list[str]]:
    """A shell prefix under which every file, and so every byte of a download, may be `size` bytes at most."""
    yield ["prlimit", f"--fsize={size}", "--"]


@pytest.mark.parametrize("size", [0, 1, 100, 5_000, 70_000, 2 * 2**20])
def test_a_disk_without_room_at_any_byte_is_told_and_what_is_here_is_kept(tmp_path: Path, size: int) -> None:
    """A quota on files stands in for a full disk: the same calls fail, at the same bytes."""
    to = tmp_path / "m"
    argv = [sys.executable, "-m", "seawall", "pull", HF, "--to", str(to)]
    with HubDouble(SMALL) as hub, _limit(size) as prefix:
        environ = os.environ | env(hub, tmp_path) | {"PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([*prefix, *argv], env=environ, capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith((f"seawall: {to}: ", f"seawall: --to {to}: "))
        assert not (to / "seawall.lock").exists()
        assert not is_complete(to)
        assert subprocess.run(argv, env=environ, capture_output=True).returncode == 0
    check(to, read_lock(to / "seawall.lock"))


def _small_disks() -> bool:
    """Whether this user may mount a file system of their own, in a namespace of their own."""
    try:
        made = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=4k tmpfs /mnt"]
        return subprocess.run(made, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.mark.skipif(
    not _small_disks(), reason="this user may mount nothing: the quotas above stand in for it"
)
@pytest.mark.parametrize("kib", [4, 3_076, 3_080, 3_088, 3_092, 3_096])
def test_a_disk_that_is_really_full_loses_nothing_and_is_gone_on_with(tmp_path: Path, kib: int) -> None:
    """The whole disk has so much room: the weights, their map, what was verified, the lock and the marker share it."""
    disk, to = tmp_path / "disk", tmp_path / "disk" / "m"
    disk.mkdir()
    pulls = f"{sys.executable} -m seawall pull {HF} --to {to}"
    script = f"""
mount -t tmpfs -o size={kib}k tmpfs {disk} || exit 90
{pulls} > {tmp_path}/said 2>&1; first=$?
[ $first = 0 ] || [ ! -e {to}/.seawall/complete.json ] || exit 91
mount -o remount,size=64m {disk} || exit 92
{pulls} || exit 93
{pulls} --check || exit 94
exit $first
"""
    with HubDouble(SMALL) as hub:
        environ = os.environ | env(hub, tmp_path) | {"PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            ["unshare", "-Urm", "sh", "-c", script], env=environ, capture_output=True, text=True
        )
    told = (tmp_path / "said").read_text("utf-8")
    assert done.returncode in (0, 2), done.stderr + told
    assert done.returncode == 2 or kib > 3_090
    assert "Traceback" not in told
    if done.returncode:
        assert told.startswith(f"seawall: {to}: ")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES])
def test_what_a_disk_refuses_has_a_cure(tmp_path: Path, code: int) -> None:
    told = told_of_disk(OSError(code, os.strerror(code)), tmp_path / "gone")
    assert isinstance(told, InputError)
    assert told.cure


SHARDED = {
    "config.json": b'{"old": 1}',
    "model.safetensors.index.json": b'{"weight_map": {"w": "model-00001-of-00001.safetensors"}}',
    "model-00001-of-00001.safetensors": safetensors(2**20, 3),
    "extra/notes.txt": b"old",
}


def test_another_revision_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    """An index that stayed would have the engine load the old shards beside the new config."""
    to = tmp_path / "m"
    with HubDouble(SHARDED) as hub:
        pull(order(to), env(hub, tmp_path))
        (to / "mine.txt").write_text("the user's own")
        (to / "seawall.lock").unlink()
        hub.files = SMALL
        pull(order(to), env(hub, tmp_path))
    here = {str(p.relative_to(to)) for p in to.rglob("*") if p.is_file() and ".seawall" not in p.parts}
    assert here == {*SMALL, "mine.txt", "seawall.lock"}
    assert not (to / "extra").exists()


@pytest.mark.parametrize("breaks_at", ["config.json", "model.safetensors"])
def test_a_folder_between_two_revisions_is_whole_for_neither(tmp_path: Path, breaks_at: str) -> None:
    """Shards of two revisions have the same names and sizes: only the marker tells them apart."""
    to, other = tmp_path / "m", {name: bytes(reversed(data)) for name, data in SMALL.items()}
    other["model.safetensors"] = safetensors(3 * 2**20, 9)
    with HubDouble(SMALL) as hub:
        pull(order(to), env(hub, tmp_path))
        old = read_lock(to / "seawall.lock")
        (to / "seawall.lock").unlink()
        hub.files, hub.broken = other, {breaks_at}
        with pytest.raises(SourceError):
            pull(order(to), env(hub, tmp_path))
        changed = [name for name, data in SMALL.items() if (to / name).read_bytes() != data]
        assert is_complete(to, old) is (not changed)
        assert is_complete(to) is (not changed)
        hub.broken = set()
        pull(order(to), env(hub, tmp_path))
    check(to, read_lock(to / "seawall.lock"))


def test_a_small_file_that_changed_under_one_revision_is_pulled_again(tmp_path: Path) -> None:
    """A branch that was pushed again, or a mirror that was mended: neither name nor size nor revision tells it."""
    to = tmp_path / "m"
    with HubDouble(SMALL) as hub:
        pull(order(to), env(hub, tmp_path))
        (to / "seawall.lock").unlink()
        hub.files = {**SMALL, "config.json": b"[]"}
        pull(order(to), env(hub, tmp_path))
    assert (to / "config.json").read_bytes() == b"[]"
    check(to, read_lock(to / "seawall.lock"))


@pytest.mark.parametrize("faults", [[], ["truncate", "503"]])
def test_files_that_lie_with_another_host_come_without_the_token(tmp_path: Path, faults: list[str]) -> None:
    with HubDouble(SMALL, faults) as hub:
        hub.elsewhere = True
        pull(order(tmp_path / "m"), env(hub, tmp_path, HF_TOKEN="hf_secret_env"))
    assert "Bearer hf_secret_env" in hub.tokens
    assert hub.strange_tokens == {None}
    assert {n: (tmp_path / "m" / n).read_bytes() for n in SMALL} == SMALL


def linked(tmp_path: Path) -> Path:
    """A cache as huggingface_hub lays it out: names that link to blobs."""
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, (name, data) in enumerate(SMALL.items()):
        (blobs / f"{number}").write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_a_cache_of_links_is_a_source_like_any_other(tmp_path: Path) -> None:
    snapshot = linked(tmp_path)
    pull(order(tmp_path / "m", f"file://{snapshot}"), {"HF_HOME": str(tmp_path)})
    assert {n: (tmp_path / "m" / n).read_bytes() for n in SMALL} == SMALL
    assert not any((tmp_path / "m" / n).is_symlink() for n in SMALL)


def test_links_where_files_should_be_are_replaced_and_what_they_led_to_is_left(tmp_path: Path) -> None:
    snapshot = linked(tmp_path)
    blob = tmp_path / "hub" / "blobs" / "1"
    damage(blob, same_time=True)
    before = blob.read_bytes()
    with HubDouble(SMALL) as hub:
        pull(order(snapshot), env(hub, tmp_path))
        assert is_complete(snapshot)
    assert {n: (snapshot / n).read_bytes() for n in SMALL} == SMALL
    assert blob.read_bytes() == before


@pytest.mark.parametrize(("header", "cure"), [("240", "come back in 240 s"), ("soon", "Check the network")])
def test_a_hub_that_says_when_to_come_back_is_quoted(header: str, cure: str) -> None:
    def limited(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, headers={"retry-after": header})

    with (
        httpx2.Client(transport=httpx2.MockTransport(limited)) as http,
        pytest.raises(SourceError, match="429") as e,
    ):
        get_small(http, "https://hub.example/api/models/org/model", "org/model", attempts=1)
    assert cure in f"{e.value} {e.value.cure}"
