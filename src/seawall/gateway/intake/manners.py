"""What clients of a fleet may ask of its engines: fields that give power over an engine or over others, and media that
an engine would fetch for them. And the salt that keeps one tenant's prompts out of another's prefix cache.

Where tenants are listed, strangers share engines, so the default is strict; elsewhere only `file:` is refused, which no
client has any business with. Forbidden here: guessing; what cannot be told from an allowed host is refused.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from seawall.decide.route.members import NO_JSON, TOO_DEEP
from seawall.decide.route.refusal import Refusal
from seawall.decide.route.scan import holds
from seawall.domain.spec import Gateway

POWERS: Final = frozenset(
    {
        "priority",
        "kv_transfer_params",
        "ec_transfer_params",
        "prompt_embeds",
        "image_embeds",
        "audio_embeds",
        "video_embeds",
        "chat_template",
        "mm_processor_kwargs",
        "media_io_kwargs",
        "vllm_xargs",
        "logits_processors",
        "request_id",
    }
)
"""Fields that jump queues, reach into caches and connectors, or have the engine run or load what they bring."""
WITHIN_KWARGS: Final = frozenset({"chat_template", "tokenize"})
"""Names in `chat_template_kwargs` that do what a refused field would do."""
PARTS: Final = frozenset({"prompt_embeds", "image_embeds", "audio_embeds", "video_embeds"})
"""Kinds of content parts that bring tensors: as a part's type, or as a key of one that has no type, or a `uuid`."""
SALT: Final = "cache_salt"
MEDIA: Final = frozenset({"image", "images", "mask", "audio", "video", "videos", "ref_audio", "ref_image"})
"""Keys, beside those that end in `_url`, whose text may be a URL that is fetched."""
ABOUT_MEDIA: Final = frozenset({"transcriptions", "translations", "speech", "images"})
"""Routes of `routes.ROUTES` that take forms, or JSON that names media under many keys."""
MOST_DEEP: Final = 64
_ESCAPED: Final = re.compile(rb"\\u00[2-7]")
"""A letter written as an escape: who looks for a word must decode first."""
_HTTP: Final = re.compile(r"https?://([a-z0-9.-]+)(:[0-9]{1,5})?([/?#][!-\[\]-~]*)?", re.IGNORECASE)
"""URLs about whose host no two parsers differ: no user, no backslash, no space, nothing beyond ASCII."""
_SCHEME: Final = re.compile(r"[\x00-\x20]*([a-zA-Z][a-zA-Z0-9+.-]*):")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_anything = msgspec.json.Decoder()


class Manners(NamedTuple):
    """A fleet's policy, from its spec."""

    refused: frozenset[str]
    """Fields that no request may have."""
    hosts: frozenset[str] | None
    """Whose media may be named by a URL; None: anybody's."""
    salted: bool
    """Each tenant has a prefix cache of its own."""


def manners_of(spec: Gateway) -> Manners:
    shared = bool(spec.tenants)
    refused = (POWERS if shared else frozenset()) | frozenset(spec.refuse_fields)
    hosts = spec.media_hosts if spec.media_hosts is not None else ([] if shared else ["*"])
    return Manners(
        refused - frozenset(spec.allow_fields),
        None if "*" in hosts else frozenset(h.lower().rstrip(".") for h in hosts),
        shared and spec.cache_per_tenant,
    )


def misses_manners(body: bytes, manners: Manners, route: str = "messages") -> Refusal | None:
    """Why a JSON body may not be passed on. Routes about media name them under more keys than others. What has to be
    looked into and cannot be read (a number out of range, half of a surrogate pair) is refused for that."""
    try:
        fields = fields_of(body) if manners.refused else None
        refusal = refuse_fields(fields, manners) if fields is not None else None
        if refusal is None and (route in ABOUT_MEDIA or _may_name_media(body, manners, route)):
            refusal = refuse_media(fields_of(body) if fields is None else fields, manners)
        return refusal
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return NO_JSON
    except RecursionError:
        return TOO_DEEP


def fields_of(body: bytes) -> dict[str, msgspec.Raw]:
    """`body` is a JSON object: it has been peeked at."""
    return _fields.decode(body)


def refuse_fields(fields: Mapping[str, Any], manners: Manners) -> Refusal | None:
    """For the fields of a JSON body, or of a form."""
    for name in fields:
        if name in manners.refused:
            return _not_allowed(name)
    kwargs = fields.get("chat_template_kwargs") if "chat_template" in manners.refused else None
    if kwargs is not None and isinstance(kwargs, msgspec.Raw):
        inner = _anything.decode(kwargs)
        if isinstance(inner, dict):
            for name in inner:
                if name in WITHIN_KWARGS:
                    return _not_allowed(f"chat_template_kwargs.{name}")
    return None


def _may_name_media(body: bytes, manners: Manners, route: str) -> bool:
    """Whether `refuse_media` has to look, told by scans of the bytes: a prompt may be long, and mostly names none."""
    escaped = holds(body, b"\\u00") and _ESCAPED.search(body) is not None
    named = escaped or holds(body, b"_url") or (route == "messages" and holds(body, b"source"))
    if not named and not (manners.refused and holds(body, b'_embeds"')):
        return False
    return escaped or manners.hosts is not None or bool(manners.refused) or holds(body.lower(), b"file:")


def refuse_media(fields: Mapping[str, msgspec.Raw], manners: Manners) -> Refusal | None:
    """For the content of a request: media by URLs that are not allowed, parts that bring tensors."""
    for name, raw in fields.items():
        if name in _PLAIN:
            continue
        for found in _media(name, _anything.decode(raw), 0):
            if isinstance(found, Refusal):
                return found._replace(param=name)
            refusal = refuse_url(found, manners.hosts)
            if refusal is not None:
                return refusal._replace(param=name)
            if found in manners.refused:
                return _not_allowed(found)
    return None


_PLAIN: Final = frozenset(
    {"model", "tools", "metadata", "response_format", "structured_outputs", "logit_bias"}
)
"""Fields whose values are nobody's content."""


def _media(key: str, value: Any, depth: int) -> Iterator[str | Refusal]:
    """The texts below `value` that an engine might fetch, and the types of parts that bring tensors."""
    if depth > MOST_DEEP:
        yield Refusal(400, "json_too_deep", "The request body is nested too deeply. Flatten it.")
    elif isinstance(value, str):
        if key.endswith("_url") or (key in MEDIA and _SCHEME.match(value)):
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _media(key, item, depth + 1)
    elif isinstance(value, dict):
        kind = value.get("type")
        if isinstance(kind, str) and kind in PARTS:
            yield kind
        url = value.get("url")
        if isinstance(url, str) and (key.endswith("_url") or key == "source" or key in MEDIA):
            yield url
        for name, inner in value.items():
            if name in PARTS:
                yield name
            if not (
                name == "input" and kind in ("tool_use", "server_tool_use")
            ):  # arguments of a model's own call
                yield from _media(name, inner, depth + 1)


def refuse_url(url: str, hosts: frozenset[str] | None) -> Refusal | None:
    """Whether an engine may be given `url` to fetch."""
    if not url or url in PARTS:
        return None
    found = _SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    if scheme == "data":
        return None
    if scheme == "file":
        return Refusal(
            400, "media_not_allowed", "`file:` URLs are never read. Send the data itself (`data:`)."
        )
    if hosts is None:
        return None
    if not hosts:
        message = "Media by URL are not allowed here (gateway.mediaHosts). Send the data itself (`data:`)."
        return Refusal(400, "media_not_allowed", message)
    http = _HTTP.fullmatch(url)
    if http is None or http[1].lower().rstrip(".") not in hosts:
        message = f"Media may come from {', '.join(sorted(hosts))} only (gateway.mediaHosts), or as `data:`."
        return Refusal(400, "media_not_allowed", message)
    return None


def _not_allowed(name: str) -> Refusal:
    shown = "".join(c if c.isprintable() else "?" for c in name[:100])
    message = f"The field `{shown}` is not allowed here (gateway.allowFields). Leave it out."
    return Refusal(400, "field_not_allowed", message, param=shown)


def salt_of(fleet: str, tenant: str, own: msgspec.Raw | None = None) -> str:
    """A tenant's salt: always the same, so that caches outlive gateways. It need not be secret, for no client's own
    (JSON, as it stands in the body) reaches an engine as it is: it only divides the tenant's cache further. One that
    is no text, or none that can be read, divides nothing."""
    try:
        within = "" if own is None else msgspec.json.decode(own, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        within = ""
    parts = "\0".join(("seawall", fleet, tenant, within))
    return base64.urlsafe_b64encode(hashlib.sha256(parts.encode()).digest()).rstrip(b"=").decode()


def with_salt(body: bytes, fields: Mapping[str, msgspec.Raw], fleet: str, tenant: str) -> bytes:
    """The same body with the tenant's salt; all other values keep their bytes."""
    raw = fields.get(SALT)
    salt = {SALT: salt_of(fleet, tenant, raw)}
    if raw is not None or not fields:
        return msgspec.json.encode({**fields, **salt})
    return body.rstrip()[:-1] + b"," + msgspec.json.encode(salt)[1:]
