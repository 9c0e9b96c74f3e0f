"""What gateways, meshes and ingresses before the engines write, and clients report, when a request does not "
"come through.

A table only; the texts are those of Envoy, nginx, llm-d's endpoint picker, aiohttp and httpx. They run on: `alive`.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

GATEWAYS: tuple[Sign, ...] = (
    Sign(
        "route/body-too-large",
        r"client intended to send too large (?:chunked )?body|413 (?:Request Entity|Payload|Content) Too Large"
        r"|request_payload_too_large",
        "the ingress refuses requests for their size (413): long prompts and pictures are larger than it lets through",
        "nginx.ingress.kubernetes.io/proxy-body-size: 64m (client_max_body_size; 1m is built in); Envoy: the "
        "buffer filter's "
        "max_request_bytes; other proxies have the like",
        weight=45,
        any_level=True,
        alive=True,
        request=True,
    ),
    Sign(
        "route/proxy-timeout",
        r"upstream timed out[^\n]{0,60}while (?:reading|waiting|connecting)[^\n]{0,40}|upstream request timeout"
        r"|response_timeout|504 Gateway Time-?out|stream timeout",
        "a proxy before the engines gives up while they still work: its time for an answer is shorter than a "
        "generation",
        "nginx.ingress.kubernetes.io/proxy-read-timeout and proxy-send-timeout: 3600 and proxy-buffering: off; "
        "Envoy and "
        "Gateway API: timeouts.request 0s in the route; cloud load balancers: their idle timeout; stream=true "
        "keeps data "
        "moving. If the engines wait at that time, more replicas",
        weight=60,
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/peer-unreachable",
        r"failed to find candidate (?:endpoints|pods)|no (?:available|healthy|ready|candidate) (?:endpoints?"
        r"|upstreams?"
        r"|backends?|pods?|servers?)\b[^\n]{0,60}|no healthy upstream|inference gateway: ServiceUnavailable",
        "the gateway has no engine that it may send to",
        "kubectl get pods,endpointslices: is one Ready, and do the pool's or Service's selector and targetPort "
        "fit it? "
        "InferencePool: kubectl describe inferencepool, and the endpoint picker's log says how many Pods it sees "
        "and whether "
        "it reaches their /metrics; a model's name that no engine serves is filtered out, too",
        weight=70,
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/peer-unreachable",
        r"upstream connect error or disconnect/reset before headers"
        r"(?:[^\n]{0,60}reset reason: (?P<why>[^\n,\"]{3,60}))?"
        r"|upstream prematurely closed connection[^\n]{0,60}|recv\(\) failed \(104: Connection reset[^\n]{0,60}"
        r"|connect\(\) failed \(111: Connection refused\)[^\n]{0,60}",
        "a proxy or mesh before the engines does not get through to one, or loses it in the middle: {why}",
        "does vLLM listen on 0.0.0.0 at the Service's targetPort, and did an engine restart at that time "
        "(kubectl get pods)? "
        "In a mesh: one mTLS mode on both sides (PeerAuthentication, DestinationRule); a kept connection "
        "that the engine "
        "closes first: a proxy's keep-alive below the engine's (5 s; VLLM_HTTP_TIMEOUT_KEEP_ALIVE)",
        weight=65,
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/peer-unreachable",
        r"ServerDisconnectedError|RemoteProtocolError[^\n]{0,80}|ClientPayloadError[^\n]{0,80}"
        r"|Server disconnected without sending a response",
        "an engine closes connections of the router or client in the middle of a request",
        "did it restart, or is it killed at that time (kubectl get pods; its --previous log)? If not: "
        "connections that are "
        "kept longer than the engine keeps them (VLLM_HTTP_TIMEOUT_KEEP_ALIVE, 5 s): a shorter keep-alive in the "
        "router, or "
        "one retry",
        weight=60,
        certain=False,
        any_level=True,
        alive=True,
    ),
)
"""In this order: an earlier sign explains a later one."""
