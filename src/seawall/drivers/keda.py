"""KEDA's external push scaler as a server: its messages, its methods, and who may connect. The only speaker of gRPC.

The interface is KEDA's public one (pkg/scalers/externalscaler/externalscaler.proto of KEDA 2.20): package, names and
field numbers are in the table below, from which the messages are made when this is imported; nothing is generated.
What is answered is decided elsewhere (`ScaleAnswers`). Forbidden: decisions, Kubernetes.

Needs the extra `scaler` (grpcio, protobuf).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from seawall.errors import InputError, SeawallError

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError:  # pragma: no cover
    raise InputError(
        "serving KEDA needs grpcio, which is not installed.", "Install it: pip install 'seawall[scaler]'."
    ) from None

log = logging.getLogger("seawall.scaler")
PACKAGE = "externalscaler"
SERVICE = f"{PACKAGE}.ExternalScaler"
_F = descriptor_pb2.FieldDescriptorProto
_TEXT, _TRUTH, _WHOLE, _REAL, _MESSAGE = (
    _F.TYPE_STRING, _F.TYPE_BOOL, _F.TYPE_INT64, _F.TYPE_DOUBLE, _F.TYPE_MESSAGE,
)  # fmt: skip
_ONE, _MANY = _F.LABEL_OPTIONAL, _F.LABEL_REPEATED

MESSAGES: dict[str, list[tuple[str, int, int, int, str]]] = {
    "ScaledObjectRef": [
        ("name", 1, _TEXT, _ONE, ""),
        ("namespace", 2, _TEXT, _ONE, ""),
        ("scalerMetadata", 3, _MESSAGE, _MANY, "ScaledObjectRef.ScalerMetadataEntry"),
    ],
    "IsActiveResponse": [("result", 1, _TRUTH, _ONE, "")],
    "GetMetricSpecResponse": [("metricSpecs", 1, _MESSAGE, _MANY, "MetricSpec")],
    "MetricSpec": [
        ("metricName", 1, _TEXT, _ONE, ""),
        ("targetSize", 2, _WHOLE, _ONE, ""),
        ("targetSizeFloat", 3, _REAL, _ONE, ""),
    ],
    "GetMetricsRequest": [
        ("scaledObjectRef", 1, _MESSAGE, _ONE, "ScaledObjectRef"),
        ("metricName", 2, _TEXT, _ONE, ""),
    ],
    "GetMetricsResponse": [("metricValues", 1, _MESSAGE, _MANY, "MetricValue")],
    "MetricValue": [
        ("metricName", 1, _TEXT, _ONE, ""),
        ("metricValue", 2, _WHOLE, _ONE, ""),
        ("metricValueFloat", 3, _REAL, _ONE, ""),
    ],
}
"""Message -> (field, number, type, label, message of a message's field)."""


def _made() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="seawall/externalscaler.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label, of in fields:
            added = message.field.add(name=field, number=number, type=kind, label=label)
            if of:
                added.type_name = f".{PACKAGE}.{of}"
        if name == "ScaledObjectRef":
            entry = message.nested_type.add(name="ScalerMetadataEntry")
            entry.options.map_entry = True
            for number, field in ((1, "key"), (2, "value")):
                entry.field.add(name=field, number=number, type=_TEXT, label=_ONE)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


MESSAGE: Mapping[str, Any] = _made()
"""Message -> its class."""


@dataclass(frozen=True)
class KedaQuestion:
    """Which ScaledObject KEDA asks for, and what its trigger says."""

    namespace: str
    name: str
    trigger: Mapping[str, str]


class Blind(SeawallError):
    """No answer that can be stood for: KEDA counts it as a failure, and falls back after a few."""


class ScaleAnswers(Protocol):
    """Who decides. Each may raise Blind, or InputError for a trigger that cannot be read."""

    async def replicas(self, asked: KedaQuestion) -> int: ...

    async def active(self, asked: KedaQuestion) -> bool: ...

    def activity(self, asked: KedaQuestion) -> AsyncIterator[bool]:
        """Whether it is active: at once, and whenever that changes; until KEDA goes away."""
        ...


@dataclass(frozen=True)
class Tls:
    """A folder of tls.crt, tls.key and, where clients must show a certificate, ca.crt: what cert-manager writes, and
    writes again before they expire. Each handshake is held with what lies there then."""

    folder: Path

    def credentials(self) -> Any:
        """InputError where a file is missing, or key and certificate are no pair."""
        held = self._files()

        def renewed() -> Any:
            """What gRPC asks at each handshake: the new files, or None: the old ones go on."""
            nonlocal held
            try:
                found = self._files()
            except InputError as e:
                log.error("the old certificate stays: %s", e)
                return None
            if found == held:
                return None
            held = found
            log.info("certificate read")
            return _configured(*found)

        return grpc.dynamic_ssl_server_credentials(
            _configured(*held), renewed, require_client_authentication=held[2] is not None
        )

    def _files(self) -> tuple[bytes, bytes, bytes | None]:
        """(key, certificate, CA) as they lie there, of one moment."""
        paths = {name: self.folder / name for name in ("tls.key", "tls.crt", "ca.crt")}

        def read(name: str) -> bytes:
            try:
                return paths[name].read_bytes()
            except OSError as e:
                raise InputError(
                    f"{paths[name]}: {e.strerror or e}.",
                    "Mount the Secret that spec.scaling.tlsSecret names.",
                ) from None

        ca = read("ca.crt") if paths["ca.crt"].exists() else None
        found = read("tls.key"), read("tls.crt"), ca
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(paths["tls.crt"], paths["tls.key"])
        except (ssl.SSLError, OSError) as e:
            raise InputError(
                f"{paths['tls.crt']} and its key cannot be used: {getattr(e, 'reason', None) or e}.",
                "Write both from one certificate.",
            ) from None
        return found


def _configured(key: bytes, certificate: bytes, ca: bytes | None) -> Any:
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=ca)


METRIC = "replicas"
"""The one metric: how many replicas there should be. Its target is 1 per replica."""


def _asked(ref: Any) -> KedaQuestion:
    return KedaQuestion(ref.namespace, ref.name, dict(ref.scalerMetadata))


async def _or_abort(context: Any, work: Awaitable[Any]) -> Any:
    """What came of it; KEDA is told why where nothing did."""
    try:
        return await work
    except Blind as e:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(e))
    except SeawallError as e:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(e))


def handlers(answers: ScaleAnswers) -> Any:
    """KEDA's methods. `StreamMetricSpec`, which is optional, is left out: the target never changes."""

    async def is_active(ref: Any, context: Any) -> Any:
        return MESSAGE["IsActiveResponse"](result=await _or_abort(context, answers.active(_asked(ref))))

    async def stream_is_active(ref: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for active in answers.activity(_asked(ref)):
                yield MESSAGE["IsActiveResponse"](result=active)
        except SeawallError as e:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(e))

    async def get_metric_spec(ref: Any, context: Any) -> Any:
        spec = MESSAGE["MetricSpec"](metricName=METRIC, targetSize=1, targetSizeFloat=1.0)
        return MESSAGE["GetMetricSpecResponse"](metricSpecs=[spec])

    async def get_metrics(request: Any, context: Any) -> Any:
        count = await _or_abort(context, answers.replicas(_asked(request.scaledObjectRef)))
        value = MESSAGE["MetricValue"](metricName=METRIC, metricValue=count, metricValueFloat=float(count))
        return MESSAGE["GetMetricsResponse"](metricValues=[value])

    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
        "IsActive": (unary, is_active, "ScaledObjectRef"),
        "StreamIsActive": (stream, stream_is_active, "ScaledObjectRef"),
        "GetMetricSpec": (unary, get_metric_spec, "ScaledObjectRef"),
        "GetMetrics": (unary, get_metrics, "GetMetricsRequest"),
    }
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: kind(
                handler,
                request_deserializer=MESSAGE[request].FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, (kind, handler, request) in methods.items()
        },
    )


MOST_BYTES = 1 << 20
MOST_CALLS = 8192
"""Calls at once. Each ScaledObject holds one open for as long as it lives (StreamIsActive), and a KEDA that was
replaced leaves its own behind until they are found dead: all of these must leave room for questions."""
ALIVE_S = 60
"""How often a connection on which nothing is said is asked whether it lives."""
OPTIONS = [
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", ALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients that ask as often are no attackers: gRPC's own bound of five minutes would end their connections.
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
]


async def serve(answers: ScaleAnswers, listen: str, tls: Tls | None) -> tuple[Any, int]:
    """A server that runs, and its port. InputError where the address is taken."""
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MOST_CALLS)
    server.add_generic_rpc_handlers((handlers(answers),))
    try:
        port = server.add_secure_port(listen, tls.credentials()) if tls else server.add_insecure_port(listen)
    except RuntimeError as e:
        raise InputError(f"cannot listen at {listen}: {e}.", "Give another --listen.") from None
    await server.start()
    return server, port
