"""What the API server says when it says no -> one line that a person can act on, with the cure for this very cause.

The same code has many causes: 403 is a missing role, a quota, pod security, a webhook's veto or a namespace that is
going away. The server's message is shown cut short, without the values that it quotes: they may be anybody's secret.
"""

from __future__ import annotations

import json
import re
from typing import Any

from seawall.domain.units import show_seconds
from seawall.errors import ClusterError

_ENDING = "because it is being terminated"
_RBAC = "Ask for the role; `seawall doctor` lists what is missing."
_POLICY = "A policy of this cluster forbids it; its owner can say why."
NEWER = (
    "The cluster's definition of a Fleet is older than this seawall: "
    "seawall operator manifests --crd-only | kubectl apply --server-side -f -"
)
_OLD_ROLE = (
    "The operator's role is older than this seawall: apply what `seawall operator manifests` prints, as when it was "
    "installed."
)
_CURES: list[tuple[int, str, str]] = [
    (401, "", "Log in again, or choose another --context."),
    (403, _ENDING, "Wait until the namespace is gone, then try again."),
    (403, r"exceeded quota", "What holds it: kubectl describe resourcequota. Free some, ask for more, or want fewer."),
    (403, r"failed quota.*must specify", "The quota wants every container to say them; a LimitRange may."),
    (403, r"violates PodSecurity", "Pod security of the namespace forbids it: seawall doctor FLEET.yaml"),
    (403, r"(maximum|minimum) .* usage per", "A LimitRange of the namespace forbids it: kubectl get limitrange"),
    (403, r"denied the request|ValidatingAdmissionPolicy", _POLICY),
    (403, r"cannot set blockOwnerDeletion", _OLD_ROLE),
    (403, r"cannot \w+ resource|forbidden: User|not allowed to", _RBAC),
    (403, "", "See the server's words; `seawall doctor` lists what your role lacks."),
    (400, r"not support dry run", "`seawall apply --yes` needs no dry run; the webhook should say sideEffects: None."),
    (400, r"denied the request", _POLICY),
    (404, r"page not found|could not find the requested resource",
     "Install what provides this kind; `seawall doctor FLEET.yaml` names it with its command."),
    (404, r"^namespaces? ", "Create the namespace, or choose another with --namespace."),
    (404, "", "Install what provides it, or check the namespace."),
    (409, r"Apply failed", "Somebody else manages these fields; --force-conflicts takes them."),
    (410, "", "Try again."),
    (413, "", "The object is larger than the server takes (about 1.5 MiB)."),
    (422, r"Too long: (must have|may not be more)", "The object is larger than the server takes (1 MiB)."),
    (422, r"denied request|ValidatingAdmissionPolicy", _POLICY),
    (429, "", "The server is busy, or a disruption budget forbids it now. Try again later."),
    (500, r"seawall\.dev/.*not declared in schema", NEWER),
    (500, r"not declared in schema",
     "The cluster's definition of this kind is older: upgrade what provides it; `seawall doctor FLEET.yaml` names it."),
    (500, r"failed calling webhook|webhook .*(timeout|refused|x509)", "One of this cluster's webhooks is down."),
    (503, "", "Try again; if it stays: kubectl get --raw /readyz?verbose"),
]  # fmt: skip
IMMUTABLE = re.compile(
    r"field is immutable|is immutable after creation|spec is immutable|cannot change roleRef|"
    r"field can not be less than|updates to \w+ spec for fields other than|"
    r"Forbidden: (may not|can not|cannot) be (changed|less than)"
)
_NO_PATH = re.compile(r"page not found|could not find the requested resource")
_DAY_S = 86_400.0
_QUOTED = re.compile(r"Invalid value: .*: ", re.S)
"""Greedy: what is quoted may hold anything, and only what follows the last colon is the server's own word."""


class Refused(ClusterError):
    """The API server answered with a Status that is not success."""

    def __init__(self, code: int, reason: str, message: str, cure: str = "", said: str = "") -> None:
        super().__init__(message, cure)
        self.code, self.reason = code, reason
        self.retry_after_s: float | None = None
        """Seconds that the server wants to be left alone; None where it named no time."""
        self.said = said or message
        """The server's own words, for telling causes apart; never shown whole."""

    @property
    def immutable(self) -> bool:
        """The object would have to be made anew: something in it cannot change."""
        return self.code == 422 and bool(IMMUTABLE.search(self.said))

    @property
    def unserved(self) -> bool:
        """The kind itself is not there (any more), and not only an object of it."""
        return self.code == 404 and bool(_NO_PATH.search(self.said))

    @property
    def ending(self) -> bool:
        """Whether the namespace is being terminated: nothing is made there any more."""
        return self.code == 403 and _ENDING in self.said


class Away(ClusterError):
    """The error while the API server cannot be reached: it restarts, or the network to it is down."""


def passing(e: ClusterError) -> bool:
    """Whether the trouble may be over in a moment, so that waiting and watching go on."""
    return isinstance(e, Away) or (
        isinstance(e, Refused)
        and (e.code == 429 or (e.code >= 500 and "not declared in schema" not in e.said))
    )


def refused(code: int, content: bytes, retry_after_s: float | None = None) -> Refused:
    """The error for an answer of 400 or more. `retry_after_s`: when the server wants to be asked again."""
    try:
        status = json.loads(content)
        said, reason = str(status["message"]), str(status.get("reason") or "")
        causes = (status.get("details") or {}).get("causes") or []
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        said, reason, causes = content[:300].decode(errors="replace").strip() or f"HTTP {code}", "", []
    cure = cure_of(code, said) or next((c for at, pattern, c in _CURES if at == code and not pattern), "")
    text = _invalid(said, causes) if code == 422 else said
    if code == 429 and retry_after_s:
        when = show_seconds(min(retry_after_s, _DAY_S))
        cure = (
            f"The server is busy, or a disruption budget forbids it now. It asks to be left alone for {when}."
        )
    told = f"Kubernetes says {code} {reason}: {_short(text)}".replace(" :", ":")
    found = Refused(code, reason, told, cure, said)
    found.retry_after_s = retry_after_s
    return found


def cure_of(code: int, said: str) -> str:
    """What to do about a refusal with these very words of the server; empty where they are none that is known."""
    return next((c for at, pattern, c in _CURES if at == code and pattern and re.search(pattern, said)), "")


def _invalid(said: str, causes: Any) -> str:
    """Which fields are wrong and why. The server quotes whole Pod templates in front of three words."""
    fields = {
        f"{c.get('field')}: {_without_value(str(c.get('message')))}"
        for c in causes
        if isinstance(c, dict) and c.get("field")
    }
    return "; ".join(sorted(fields)) if fields else _without_value(said)


def _without_value(text: str) -> str:
    return _QUOTED.sub("Invalid value: ", text) if len(text) > 200 else text


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 600 else f"{flat[:597]}..."


def warnings_of(headers: list[str]) -> list[str]:
    """The texts of `Warning: 299 - "text"` headers (RFC 7234): pod security, deprecated versions."""
    found = (re.match(r'\s*299 \S+ "((?:[^"\\]|\\.)*)"', h) for h in headers)
    return [re.sub(r"\\(.)", r"\1", m[1])[:400] for m in found if m]
