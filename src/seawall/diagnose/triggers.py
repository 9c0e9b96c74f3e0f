"""What KEDA's messages say of a trigger that fails, and what mends it. A table; text in, words out."""

from __future__ import annotations

import re

_WHY = (
    (r"multiple elements", "the query returns more than one series (wrap it in sum)", ""),
    (
        r"cannot be enabled with other auth types|podIdentity[^\n]{0,60}authModes",
        "it names two ways to log in, and KEDA takes one",
        "either podIdentity in its TriggerAuthentication, or authModes with a Secret: take one of them out",
    ),
    (
        r"TokenCredential|DefaultAzureCredential|no EC2 IMDS|WebIdentityErr|could not find default credentials"
        r"|failed to (?:get|refresh) (?:cached )?credentials|AssumeRole",
        "the KEDA operator has no identity in the cloud",
        "podIdentity wants the cloud's workload identity on KEDA's own service account (Helm: podIdentity.*), and "
        "keda-operator restarted after; kubectl -n keda get sa keda-operator -o yaml",
    ),
    (
        r"(?:bearer|basic|tls|custom)[^\n]{0,60}(?:required|empty|not (?:set|given|found))|no (?:bearerToken"
        r"|username|ca) given"
        r"|secrets? \S+ not found|error (?:reading|resolving) \w*[Ss]ecret",
        "its login is empty: the Secret or the key that its TriggerAuthentication names is not there",
        "kubectl get triggerauthentication,secret in the ScaledObject's namespace (a "
        "ClusterTriggerAuthentication reads "
        "Secrets of KEDA's own); make the Secret with that key",
    ),
    (
        r"produced zero addresses|external.?scaler|scalerAddress|keda-add-ons-http",
        "its external scaler (scalerAddress) has no address: that Service is not there, or has no ready Pod",
        "kubectl get svc,endpointslices,pods for the name in scalerAddress, with its namespace "
        "(keda-add-ons-http-external-scaler.keda:9090); are that scaler's Pods ready?",
    ),
    (
        r"dial tcp|no such host|connection refused|i/o timeout|deadline exceeded",
        "Prometheus cannot be reached at the trigger's address",
        "",
    ),
    (
        r"x509|certificate signed by|tls: ",
        "Prometheus' certificate is not trusted",
        "put its CA into the TriggerAuthentication (ca), or into KEDA's certs Secret; unsafeSsl: true to see "
        "that it is this",
    ),
    (r"\b(?:400|parse error|bad_data)\b", "Prometheus refuses the query", ""),
    (
        r"\b(?:401|403)\b|unauthorized|forbidden",
        "Prometheus wants a login (TriggerAuthentication)",
        "authModes (basic, bearer, custom) in the trigger and authenticationRef to a TriggerAuthentication "
        "whose Secret is "
        "right; kubectl logs -n keda deploy/keda-operator",
    ),
    (
        r"empty|returned no|null|'prometheus' .* result is empty|metric may be missing",
        "the query returns nothing: a metric or label that does not exist, or no Pod is scraped",
        "",
    ),
)
"""What KEDA's message has, what it means, what to do; empty: what is said of all. The first that matches is taken."""


def why_it_fails(message: str) -> tuple[str, str]:
    """(what is wrong with a trigger, what to do; empty: what is said of all)."""
    for pattern, what, do in _WHY:
        if re.search(pattern, message, re.IGNORECASE):
            return what, do
    return " ".join(message.split())[:160] or "it does not say why", ""
