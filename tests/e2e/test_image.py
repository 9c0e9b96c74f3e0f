"""The container image, built for real without a registry, does its work as any user on a root that it cannot write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
HERE = os.geteuid() == 0 and all(shutil.which(tool) for tool in ("buildah", "debootstrap"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HERE and "CI" not in os.environ, reason="needs root, buildah and debootstrap"),
]

SERVES = """
set -e
seawall init --example smollm2 --write /tmp/fleet.yaml > /tmp/out
seawall gateway /tmp/fleet.yaml --listen 127.0.0.1:0 --admin 127.0.0.1:0 \\
  --discovery static:http://127.0.0.1:9 > /tmp/log 2>&1 &
gateway=$!
for i in $(seq 600); do
  if grep -q "http://127.0.0.1:" /tmp/log; then break; fi
  sleep 0.1
done
cat /tmp/log
kill -TERM $gateway
wait $gateway
echo "ended $?"
"""


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command in a container of the image, as a user that owns nothing there."""
    folder = tmp_path_factory.mktemp("image")
    archive = folder / "seawall.tar"
    argv = [str(ROOT / "scripts" / "image.sh"), "localhost/seawall:test", str(archive)]
    built = subprocess.run(argv, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "COPY" in built.stdout  # its layers are listed
    buildah = ["buildah", "--root", str(folder / "storage"), "--runroot", str(folder / "run")]
    env = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    made = subprocess.run(
        [*buildah, "from", "--quiet", f"oci-archive:{archive}"], env=env, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    container = made.stdout.strip()

    out = folder / "out"
    out.mkdir()
    out.chmod(0o777)

    def run(*words: str) -> Ended:
        kept = """"$@" > /out/stdout 2> /out/stderr; echo $? > /out/code"""  # buildah itself may lose a part of it
        argv = [*buildah, "run", "--user", "12345:12345", "--volume", f"{out}:/out", container, "--"]
        subprocess.run([*argv, "sh", "-c", kept, "sh", *words], env=env, check=True, capture_output=True)
        stdout, stderr, code = ((out / name).read_text() for name in ("stdout", "stderr", "code"))
        return Ended(int(code), stdout, stderr)

    yield run
    subprocess.run([*buildah, "rm", container], env=env, capture_output=True)


def test_it_serves_in_its_compiled_form_and_ends_when_it_is_told_to(run: Run) -> None:
    assert run("seawall", "--version").stdout.startswith("seawall")
    compiled = run("python", "-c", "from seawall.gateway import compiled; print(compiled.use())")
    assert compiled.stdout.strip() == "True", compiled.stderr
    served = run("sh", "-c", SERVES)
    assert "ended 0" in served.stdout, served.stdout + served.stderr
    operator = run("seawall", "operator", "run")
    assert "no cluster" in operator.stderr
    assert operator.returncode in (2, 3)


def test_it_carries_the_bill_of_what_is_in_it(run: Run) -> None:
    bill = json.loads(run("cat", "/opt/seawall/bill.cdx.json").stdout)
    parts = {c.get("purl", "").partition("@")[0]: c for c in bill["components"]}
    assert parts["pkg:pypi/seawall"]["version"] == bill["metadata"]["component"]["version"]
    assert {"pkg:pypi/httptools", "pkg:pypi/uvloop", "pkg:pypi/boto3", "pkg:deb/debian/libc6"} <= set(parts)
    assert "pkg:deb/debian/gcc" not in parts and "pkg:pypi/pip" not in parts, "what builds it is not in it"
    assert next(c for c in bill["components"] if c.get("bom-ref") == "base")["name"] == "localhost/base"


def test_nothing_of_it_can_be_changed_and_no_compiler_is_left_in_it(run: Run) -> None:
    assert run("sh", "-c", "touch /opt/seawall/x").returncode != 0
    assert run("sh", "-c", "command -v gcc").returncode != 0
    assert run("sh", "-c", "python -m pip --version").returncode != 0
