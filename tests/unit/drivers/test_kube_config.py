"""Kubeconfigs as they are found in the wild, over real TLS, against the API double."""

from __future__ import annotations

import datetime
import json
import ssl
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from seawall.drivers.kube import NAMESPACE, Kube
from seawall.drivers.kube_config import client_of, find_access
from seawall.errors import ClusterError, InputError, SeawallError
from seawall.testing.kube_api import KubeApi

SECRET = "s3cr3t-token"


def write(path: Path, user: dict[str, Any], cluster: dict[str, Any], **context: Any) -> str:
    """A kubeconfig of one context named after the file."""
    name = path.stem
    config = {
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **context}}],
        "current-context": name,
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


async def ask(kubeconfig: str, context: str | None = None) -> Kube:
    """Makes one request with this kubeconfig."""
    access = find_access(kubeconfig, context, {})
    async with Kube(client_of(access, httpx2.Timeout(10)), access.namespace, access.context) as kube:
        await kube.get(NAMESPACE, None, "x")
    return kube


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with KubeApi() as double:
        double.let_in = {f"Bearer {SECRET}"}
        yield double


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"])
async def test_no_proxy_of_the_environment_stands_before_a_cluster_on_this_machine(
    api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    await ask(write(tmp_path / "kind", {"token": SECRET}, {"server": api.url}))


async def test_a_list_of_files_is_one_kubeconfig_and_the_first_word_counts(
    api: KubeApi, tmp_path: Path
) -> None:
    one = write(tmp_path / "one.yaml", {"token": SECRET}, {"server": api.url}, namespace="llm")
    two = write(tmp_path / "two.yaml", {"token": "wrong"}, {"server": "https://192.0.2.1"})
    (tmp_path / "one-again.yaml").write_text(Path(one).read_text().replace("llm", "other"))
    paths = f"{tmp_path}/none.yaml:{one}:{two}::{tmp_path}/one-again.yaml"
    kube = await ask(paths)
    assert (kube.context, kube.namespace) == ("one", "llm")
    chosen = find_access(None, "two", {"KUBECONFIG": paths})
    assert (chosen.namespace, chosen.cluster["server"]) == ("default", "https://192.0.2.1")
    with pytest.raises(InputError, match="'three'") as e:
        find_access(paths, "three", {})
    assert "one, two" in e.value.cure
    assert SECRET not in repr(chosen)


def test_a_pod_without_a_kubeconfig_uses_its_service_account(tmp_path: Path) -> None:
    env = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443", "HOME": str(tmp_path)}
    (tmp_path / "namespace").write_text("llm\n")
    found = find_access(None, None, env, tmp_path)
    assert (found.cluster["server"], found.namespace) == ("https://[fd00::1]:6443", "llm")
    assert found.user["tokenFile"] == str(tmp_path / "token")
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube" / "config", {}, {"server": "http://127.0.0.1:1"})
    assert find_access(None, None, env, tmp_path).context == "config", "a file that is there is meant"


async def test_a_token_file_beside_the_kubeconfig_is_read_again_when_it_rotates(
    api: KubeApi, tmp_path: Path
) -> None:
    config = write(
        tmp_path / "c.yaml",
        {"tokenFile": "token", "as": "root", "as-groups": ["a", "b"]},
        {"server": api.url},
    )
    (tmp_path / "token").write_text("old\n")
    access = find_access(config, None, {})
    async with Kube(client_of(access, httpx2.Timeout(10))) as kube:
        with pytest.raises(ClusterError, match="401"):
            await kube.get(NAMESPACE, None, "x")
        (tmp_path / "token").write_text(SECRET)
        await kube.get(NAMESPACE, None, "x")
    assert api.headers[-1]["impersonate-user"] == "root"


PLUGIN = """#!{python}
import json, os, pathlib, sys
calls = pathlib.Path({folder!r}) / "calls"
calls.write_text(str(int(calls.read_text()) + 1) if calls.exists() else "1")
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert info["spec"]["cluster"]["server"].startswith("http") and info["spec"]["interactive"] is False
assert sys.argv[1:] == ["get-token"] and os.environ["PROFILE"] == "p"
print((pathlib.Path({folder!r}) / "answer").read_text())
"""


def plugin(folder: Path, server: str, version: str, status: dict[str, Any], **cluster: Any) -> str:
    script = folder / "plugin"
    script.write_text(PLUGIN.format(python=sys.executable, folder=str(folder)))
    script.chmod(0o700)
    api_version = f"client.authentication.k8s.io/{version}"
    (folder / "answer").write_text(
        json.dumps({"apiVersion": api_version, "kind": "ExecCredential", "status": status})
    )
    spec = {
        "apiVersion": api_version, "command": "./plugin", "args": ["get-token"], "provideClusterInfo": True,
        "env": [{"name": "PROFILE", "value": "p"}], "interactiveMode": "IfAvailable",
    }  # fmt: skip
    return write(folder / "exec.yaml", {"exec": spec}, {"server": server, **cluster})


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_an_exec_plugin_is_asked_once_and_again_when_its_token_has_expired(
    api: KubeApi, tmp_path: Path, version: str
) -> None:
    config = plugin(
        tmp_path, api.url, version, {"token": SECRET, "expirationTimestamp": "2126-01-01T00:00:00Z"}
    )
    access = find_access(config, None, {})
    async with Kube(client_of(access, httpx2.Timeout(10))) as kube:
        for _ in range(3):
            await kube.get(NAMESPACE, None, "x")
        assert (tmp_path / "calls").read_text() == "1"
        api.let_in = {"Bearer new"}
        (tmp_path / "answer").write_text((tmp_path / "answer").read_text().replace(SECRET, "new"))
        await kube.get(NAMESPACE, None, "x")
        assert (tmp_path / "calls").read_text() == "2", "a refused token is asked for anew"


@pytest.mark.parametrize(
    "answer", [f"{SECRET} is no JSON", "{}", '{"status": {"tokens": 1}}', '{"status": {"token": 5}}', "[]"]
)
async def test_an_exec_plugin_that_fails_has_a_cure_and_keeps_its_secrets(
    api: KubeApi, tmp_path: Path, answer: str
) -> None:
    config = plugin(tmp_path, api.url, "v1", {})
    (tmp_path / "answer").write_text(answer)
    with pytest.raises(ClusterError, match="did not answer with a credential") as e:
        await ask(config)
    assert SECRET not in str(e.value)
    (tmp_path / "answer").unlink()
    with pytest.raises(ClusterError, match=r"exit code 1.*Log in again"):
        await ask(config)
    (tmp_path / "plugin").unlink()
    with pytest.raises(InputError, match="not installed"):
        await ask(config)


@dataclass
class Pki:
    """A CA, a server certificate for `api.test` and 127.0.0.1, a client certificate."""

    ca: bytes
    server: tuple[bytes, bytes]
    client: tuple[bytes, bytes]


@pytest.fixture(scope="module")
def pki() -> Pki:
    now = datetime.datetime.now(datetime.UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())

    def issue(name: str, key: Any, issuer: str, signer: Any, ca: bool, ip: str = "") -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        if ip:
            names.append(x509.IPAddress(ip_address(ip)))
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        return built.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def pair(name: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return issue(name, key, "ca", authority_key, ca=False), pem

    return Pki(issue("ca", authority_key, "ca", authority_key, ca=True), pair("api.test"), pair("client"))


@pytest.fixture
def tls(pki: Pki, tmp_path: Path) -> Iterator[KubeApi]:
    """Serves as `api.test`, and takes nobody without a client certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=pki.ca.decode())
    (tmp_path / "server").write_bytes(b"".join(pki.server))
    context.load_cert_chain(tmp_path / "server")
    context.verify_mode = ssl.CERT_REQUIRED
    # From Python 3.13 on a strict context wants key identifiers, which these certificates, like many clusters', lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with KubeApi(tls=context) as double:
        yield double


def data(pem: bytes) -> str:
    return b64encode(pem).decode()


async def test_certificates_as_data_or_as_files_and_another_name_for_the_server(
    tls: KubeApi, pki: Pki, tmp_path: Path
) -> None:
    named = {"server": tls.url, "tls-server-name": "api.test"}
    user = {"client-certificate-data": data(pki.client[0]), "client-key-data": data(pki.client[1])}
    await ask(write(tmp_path / "data.yaml", user, named | {"certificate-authority-data": data(pki.ca)}))
    for name, pem in (("ca", pki.ca), ("crt", pki.client[0]), ("key", pki.client[1])):
        (tmp_path / name).write_bytes(pem)
    files = {"client-certificate": "crt", "client-key": "key"}
    await ask(write(tmp_path / "files.yaml", files, named | {"certificate-authority": "ca"}))
    await ask(write(tmp_path / "insecure.yaml", files, {"server": tls.url, "insecure-skip-tls-verify": True}))
    assert len(tls.requests) == 3
    with pytest.raises(ClusterError, match="not signed by the kubeconfig's CA"):
        await ask(write(tmp_path / "stranger.yaml", files, named))
    with pytest.raises(ClusterError):
        await ask(write(tmp_path / "name.yaml", files, {"server": tls.url, "certificate-authority": "ca"}))
    with pytest.raises(ClusterError, match=r"does not answer|without a client certificate"):
        await ask(write(tmp_path / "nobody.yaml", {}, named | {"certificate-authority": "ca"}))
    with pytest.raises(InputError, match=r"file not found"):
        await ask(write(tmp_path / "lost.yaml", {**files, "client-key": "gone"}, named))
    with pytest.raises(InputError, match="certificates cannot be used") as e:
        await ask(write(tmp_path / "bad.yaml", {**user, "client-key-data": data(SECRET.encode())}, named))
    assert SECRET not in str(e.value)


async def test_an_exec_plugin_may_answer_with_a_certificate(tls: KubeApi, pki: Pki, tmp_path: Path) -> None:
    status = {"clientCertificateData": pki.client[0].decode(), "clientKeyData": pki.client[1].decode()}
    named = {"tls-server-name": "api.test", "certificate-authority-data": data(pki.ca)}
    await ask(plugin(tmp_path, tls.url, "v1", status, **named))
    assert tls.requests


@pytest.mark.parametrize(
    "text",
    [
        "a: b",
        "- 1",
        "clusters: 3",
        "\x00",
        "{]",
        f"users: [{{name: a, user: {{token: {SECRET}}}}}",
        "contexts: [{context: {}}]\ncurrent-context: x",
        "contexts: [{name: x, context: {cluster: y}}]\ncurrent-context: x",
        "contexts: [{name: x, context: {cluster: y, user: z}}]\ncurrent-context: x\n"
        "clusters: [{name: y, cluster: {server: 'https://h'}}]",
        "contexts: [{name: x, context: {cluster: y}}]\ncurrent-context: x\n"
        "clusters: [{name: y, cluster: {server: 'https://h:port'}}]",
        "contexts: [{name: x, context: {cluster: y, user: z}}]\ncurrent-context: x\n"
        "clusters: [{name: y, cluster: {server: 'https://h'}}]\n"
        f"users: [{{name: z, user: {{auth-provider: {{name: gcp, config: {{access-token: {SECRET}}}}}}}}}]",
    ],
)
async def test_what_cannot_be_used_is_the_users_to_mend_and_stays_unseen(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(SeawallError) as e:
        await ask(str(path))
    assert isinstance(e.value, InputError)
    assert e.value.cure
    assert SECRET not in str(e.value)
