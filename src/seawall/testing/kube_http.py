"""The HTTP face of the API double: paths, verbs, watches and its faults. State lives in `kube_api`."""

from __future__ import annotations

import json
import re
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from seawall.drivers.bounded_yaml import BoundedLoader
from seawall.testing.kube_api import KubeApi, Object, kind_name, matches
from seawall.testing.kube_discovery import AGGREGATED, AGGREGATED_TYPE, VERBS, aggregated, groups, openapi
from seawall.testing.kube_problem import ApiProblem
from seawall.testing.kube_rbac import escalation, holds, holds_up, refusal, verb_of

_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]+))?(?:/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+)(?:/.*)?)?)?)?"
)


def _read(content: bytes, kind: str) -> Object:
    """A request's body: JSON, or YAML where an apply sends it; protobuf is not spoken here."""
    if not content:
        return {}
    if "protobuf" in kind or "cbor" in kind:
        raise ApiProblem(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
    try:
        found = (
            yaml.load(content, BoundedLoader)
            if "yaml" in kind and content[:1] != b"{"
            else json.loads(content)
        )
    except (ValueError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        raise ApiProblem(400, "BadRequest", "the object provided is unrecognized (must be of type Object)")
    return found


def api_served(api: KubeApi) -> list[str]:
    """`v1`, `apps/v1`, ...: what discovery lists."""
    return sorted(v for v, plurals in api.served.items() if plurals)


def _served(api: KubeApi, version: str) -> list[tuple[str, str, bool]]:
    entries = [e.partition(":") for e in api.served.get(version, "").split()]
    return [(plural, kind_name(plural), scope != "c") for plural, _, scope in entries]


class KubeHandler(BaseHTTPRequestHandler):
    api: ClassVar[KubeApi]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.api.now() if timestamp is None else timestamp)

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _serve(self) -> None:
        api, faults = self.api, self.api.faults
        length = int(self.headers.get("content-length") or 0)
        content = self.rfile.read(length)
        if faults.down or faults.cut > 0:
            faults.cut -= not faults.down
            self.close_connection = True
            return
        api.said.warnings = []
        api.requests.append(f"{self.command} {self.path}")
        with api.changed:
            api.changed.notify_all()
        api.headers.append({k.lower(): v for k, v in self.headers.items()})
        try:
            if api.let_in is not None and self.headers.get("authorization") not in api.let_in:
                raise ApiProblem(401, "Unauthorized", "Unauthorized")
            if faults.meanwhile is not None:
                faults.meanwhile(f"{self.command} {self.path}")
            if faults.busy > 0:
                faults.busy -= 1
                told, after = (
                    b"Too many requests, please try again later.\n",
                    {"Retry-After": faults.retry_after},
                )
                self._answer(429, told, "text/plain; charset=utf-8", after)
                return
            if faults.fail > 0:
                faults.fail -= 1
                text = "the server is currently unable to handle the request"
                raise ApiProblem(503, "ServiceUnavailable", text, retry_after_s=0)
            if faults.conflict > 0 and self.command in ("PATCH", "PUT"):
                faults.conflict -= 1
                text = "the object has been modified; please apply your changes to the latest version and try again"
                raise ApiProblem(409, "Conflict", f"Operation cannot be fulfilled: {text}")
            self._route(_read(content, self.headers.get("content-type", "")))
        except ApiProblem as e:
            wait = e.retry_after_s
            self._send(e.code, e.status, {} if wait is None else {"Retry-After": str(wait)})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _route(self, body: Object) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/version":
            return self._send(200, {"major": "1", "minor": "36", "gitVersion": "v1.36.2"})
        if self._described(parts.path):
            return None
        m = _PATH.fullmatch(parts.path)
        if m is None:
            raise ApiProblem(404, "NotFound", "the server could not find the requested resource")
        version = m["core"] or m["group"]
        served = {p.partition(":")[0]: not p.endswith(":c") for p in self.api.served.get(version, "").split()}
        if m["plural"] == "selfsubjectaccessreviews":
            return self._review(body)
        if version in self.api.faults.stale:
            text = "the server is currently unable to handle the request"
            raise ApiProblem(503, "ServiceUnavailable", text, retry_after_s=1)
        if not served:
            # No Status: the server's own router has no such path.
            return self._answer(404, b"404 page not found\n", "text/plain; charset=utf-8", {})
        if m["plural"] is None:
            named = [
                {"name": p, "singularName": "", "kind": kind_name(p), "namespaced": n, "verbs": VERBS}
                for p, n in served.items()
            ]
            return self._send(200, {"kind": "APIResourceList", "groupVersion": version, "resources": named})
        if m["plural"] not in served:
            raise ApiProblem(404, "NotFound", "the server could not find the requested resource")
        if f"{self.command} {m['plural']}" in self.api.faults.forbid:
            who = 'User "somebody" cannot patch resource'
            text = f'{m["plural"]} is forbidden: {who} "{m["plural"]}" in API group "" at the cluster scope'
            raise ApiProblem(403, "Forbidden", text)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        namespace = unquote(m["namespace"] or "") if served[m["plural"]] else ""
        self._authorize(m, version, namespace, query, body)
        return self._object(
            f"{version}/{m['plural']}", namespace, unquote(m["name"] or ""), m["sub"], query, body
        )

    def _described(self, path: str) -> bool:
        """Answers discovery and OpenAPI; False for every other path."""
        api = self.api
        served = {v: _served(api, v) for v in api_served(api) if v not in api.faults.unlisted}
        if path in ("/api", "/apis") and AGGREGATED in self.headers.get("accept", ""):
            found = aggregated(served, path, api.faults.stale)
            self._answer(200, json.dumps(found).encode(), AGGREGATED_TYPE, {})
            return True
        if path.startswith("/openapi/v3"):
            made = api.objects("apiextensions.k8s.io/v1", "customresourcedefinitions").values()
            listed = openapi(made, path)
        else:
            listed = groups(served, path)
        if listed is None:
            return False
        self._send(200, listed)
        return True

    def _authorize(
        self, m: re.Match[str], version: str, namespace: str, query: dict[str, str], body: Object
    ) -> None:
        api, name = self.api, unquote(m["name"] or "")
        if api.rights is None:
            return
        resource = "/".join(filter(None, (m["plural"], m["sub"])))
        verbs = [verb_of(self.command, bool(name), query.get("watch") in ("true", "1"))]
        applies = "apply-patch" in self.headers.get("content-type", "")
        if applies and not api.has(f"{version}/{m['plural']}", namespace, name):
            verbs.append("create")
        for verb in verbs:
            if said := refusal(api.rights, verb, version, resource, namespace, name):
                raise ApiProblem(403, "Forbidden", said)
        if self.command == "GET" or not isinstance(body, dict):
            return
        if said := escalation(api.rights, body, namespace, self._rules_of):
            raise ApiProblem(403, "Forbidden", said)
        store = f"{version}/{m['plural']}"
        old = api.get(store, namespace, name) if api.has(store, namespace, name) else None
        if said := holds_up(api.rights, m["plural"], old, body, namespace, api.plural):
            raise ApiProblem(403, "Forbidden", said)

    def _rules_of(self, kind: str, namespace: str, name: str) -> list[Object]:
        plural = "clusterroles" if kind == "ClusterRole" else "roles"
        found = self.api.objects("rbac.authorization.k8s.io/v1", plural).get((namespace, name)) or {}
        return list(found.get("rules") or [])

    def _object(
        self, store: str, namespace: str, name: str, sub: str | None, query: dict[str, str], body: Object
    ) -> None:
        api, manager, dry = self.api, query.get("fieldManager", "unknown"), query.get("dryRun") == "All"
        if sub == "log":
            return self._send_text(self._log(namespace, name, query))
        if sub == "proxy":
            answer = api.proxies.get(f"{namespace}/{name}")
            if answer is None:
                raise ApiProblem(503, "ServiceUnavailable", "no endpoints available")
            if isinstance(answer, str):
                return self._pass_on(answer, body)
            return self._send(200, answer)
        if sub == "eviction" and api.faults.refuse_evictions:
            message = "Cannot evict pod as it would violate the pod's disruption budget."
            raise ApiProblem(429, "TooManyRequests", message, retry_after_s=10)
        if sub == "eviction":
            return self._send(201, api.delete(store, namespace, name))
        if self.command == "GET" and not name:
            if query.get("watch") in ("true", "1"):
                return self._watch(store, namespace, query)
            return self._send(200, api.list_page(store, namespace, query))
        if self.command == "GET":
            return self._send(200, api.get(store, namespace, name))
        unknown = query.get("fieldValidation", "Warn")
        if self.command == "POST":
            return self._send(201, api.create(store, namespace, body, manager, dry, unknown))
        if self.command == "PUT":
            return self._send(200, api.replace(store, namespace, name, body, manager, unknown))
        if self.command == "DELETE":
            grace = query.get("gracePeriodSeconds")
            policies = (query.get("propagationPolicy"), body.get("propagationPolicy"))
            if not dry and "Orphan" in policies:
                api.orphan(api.get(store, namespace, name)["metadata"]["uid"])
            return self._send(
                200,
                api.delete(
                    store,
                    namespace,
                    name,
                    grace == "0",
                    int(grace) if grace else None,
                    dry,
                    "Foreground" in policies,
                    (body.get("preconditions") or {}).get("resourceVersion"),
                ),
            )
        if "apply-patch" in self.headers.get("content-type", ""):
            force = query.get("force") == "true"
            return self._send(200, api.apply(store, namespace, name, body, manager, force, dry))
        if sub == "status":
            body = {"status": body.get("status")}  # and nothing else: the rest is another path's
        return self._send(200, api.merge(store, namespace, name, body, manager, unknown))

    def _log(self, namespace: str, name: str, query: dict[str, str]) -> str:
        """What a test has put there; else, where the double is strict, what the kubelet says instead of a log. Of a
        container whose log is gone it says so in a 200, as if that were the log."""
        api, container, previous = self.api, query.get("container", ""), bool(query.get("previous"))
        key = f"{namespace}/{name}/{container}" + ("/previous" if previous else "")
        if key in api.logs or not api.strict:
            return api.logs.get(key, "")
        pod = api.get("v1/pods", namespace, name)
        if container not in [c.get("name") for c in (pod.get("spec") or {}).get("containers") or []]:
            raise ApiProblem(400, "BadRequest", f"container {container} is not valid for pod {name}")
        statuses = (pod.get("status") or {}).get("containerStatuses") or []
        status: Object = next((s for s in statuses if s.get("name") == container), {})
        what = f'container "{container}" in pod "{name}"'
        ended = ((status.get("lastState") or {}).get("terminated") or {}).get("containerID")
        if previous and not ended:
            raise ApiProblem(400, "BadRequest", f"previous terminated {what} not found")
        if not previous and not status.get("containerID"):
            reason = ((status.get("state") or {}).get("waiting") or {}).get("reason", "ContainerCreating")
            raise ApiProblem(400, "BadRequest", f"{what} is waiting to start: {reason}")
        return f"unable to retrieve container logs for {ended if previous else status['containerID']}"

    def _review(self, body: Object) -> None:
        asked = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        denied = f"{asked['verb']} {resource}" in self.api.faults.deny
        named = f"{resource} {asked['name']}" if asked.get("name") else resource
        right = (asked.get("namespace", ""), asked.get("group", ""), named, asked["verb"])
        granted = self.api.rights is None or holds(self.api.rights, right)
        allowed = granted and not denied
        self._send(201, {**body, "status": {"allowed": allowed}})

    def _watch(self, store: str, namespace: str, query: dict[str, str]) -> None:
        api = self.api
        if api.faults.gone > 0:
            api.faults.gone -= 1
            raise ApiProblem(410, "Expired", "too old resource version")
        version = int(query.get("resourceVersion") or api.version)
        end, epoch = time.monotonic() + float(query.get("timeoutSeconds", 300)), api.epoch
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        seen: set[tuple[str, str]] = set()
        while (left := end - time.monotonic()) > 0:
            try:
                events = api.events_after(store, version, epoch, min(left, 0.5))
            except ApiProblem as e:
                self._chunk({"type": "ERROR", "object": e.status})
                break
            if events is None:
                self.close_connection = True
                return
            for happened, what, obj in events:
                version = happened
                meta = obj["metadata"]
                key = (meta.get("namespace") or "", meta["name"])
                if namespace and key[0] != namespace:
                    continue
                if matches(obj, query):
                    seen.add(key)
                    self._chunk({"type": what, "object": obj})
                elif key in seen:
                    self._chunk({"type": "DELETED", "object": obj})
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: Object) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.api.bytes_sent += len(line)
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def _pass_on(self, address: str, body: Object) -> None:
        """A request to a Pod's own server, and its answer as it comes. Who asked is not passed on: the real one keeps
        the Authorization header to itself, too."""
        there = HTTPConnection(urlsplit(address).netloc, timeout=60)
        kept = ("host", "connection", "content-length", "authorization")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in kept}
        there.request(self.command, self.path.partition("/proxy")[2], json.dumps(body).encode(), headers)
        answer = there.getresponse()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("content-type", "application/json"))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := answer.read1(65536):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        there.close()

    def _send(self, code: int, body: Object, headers: dict[str, str] | None = None) -> None:
        self._answer(code, json.dumps(body).encode(), "application/json", headers or {})

    def _send_text(self, text: str) -> None:
        self._answer(200, text.encode(), "text/plain", {})

    def _answer(self, code: int, data: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(code)
        said = [*getattr(self.api.said, "warnings", []), self.api.faults.warn]
        for text in filter(None, said if self.command != "GET" else []):
            self.send_header("Warning", f"299 - {json.dumps(text)}")
        for key, value in {**headers, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.api.bytes_sent += len(data)
        self.wfile.write(data)
