"""What a real API server says when it says no, and what a person is told. Texts as Kubernetes 1.36 words them."""

from __future__ import annotations

import json

import pytest

from seawall.drivers.kube_refusal import refused, warnings_of

NO_ROLE = (
    'pods is forbidden: User "system:serviceaccount:ci:bot" cannot list resource "pods" in API group "" '
    'in the namespace "llm"'
)
QUOTA = (
    'persistentvolumeclaims "w" is forbidden: exceeded quota: q, requested: requests.storage=158Gi, '
    "used: requests.storage=0, limited: requests.storage=100Gi"
)
PSA = (
    'pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false '
    '(container "c" must set securityContext.allowPrivilegeEscalation=false)'
)
GOING = (
    'deployments.apps "x" is forbidden: unable to create new content in namespace llm because it is being '
    "terminated"
)
LIMIT = 'pods "x" is forbidden: maximum memory usage per Container is 8Gi, but limit is 200Gi'
VETO = 'admission webhook "validate.kyverno.svc-fail" denied the request: images must be signed'
DOWN = (
    'Internal error occurred: failed calling webhook "mutate.keda.sh": failed to call webhook: Post '
    '"https://keda-admission-webhooks.keda.svc:443/x?timeout=10s": no endpoints available'
)
BLOCKS = (
    'deployments.apps "x" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you '
    "can't set finalizers on: , <nil>"
)
CONFLICT = (
    'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas'
)


@pytest.mark.parametrize(
    "code,said,cure",
    [
        (401, "Unauthorized", "Log in"),
        (403, NO_ROLE, "role"),
        (403, QUOTA, "quota"),
        (403, PSA, "Pod security"),
        (403, GOING, "until the namespace is gone"),
        (403, LIMIT, "LimitRange"),
        (403, VETO, "policy"),
        (403, BLOCKS, "seawall operator manifests"),
        (400, VETO, "policy"),
        (400, 'admission webhook "m.x.io" does not support dry run', "apply --yes"),
        (404, 'namespaces "llm" not found', "Create the namespace"),
        (404, "the server could not find the requested resource", "Install"),
        (409, CONFLICT, "--force-conflicts"),
        (422, 'ConfigMap "m" is invalid: []: Too long: may not be more than 1048576 bytes', "1 MiB"),
        (500, DOWN, "webhook"),
    ],
)
def test_one_code_has_many_causes_and_each_its_cure(code: int, said: str, cure: str) -> None:
    status = {"kind": "Status", "message": said, "reason": "R", "code": code}
    e = refused(code, json.dumps(status).encode())
    assert cure in e.cure
    assert said[:80] in e.message
    assert (e.code, e.reason, e.immutable) == (code, "R", False)


def test_a_field_that_cannot_change_is_named_without_the_template_that_is_quoted() -> None:
    template = (
        "v1.PodTemplateSpec{ObjectMeta: v1.ObjectMeta{Name:''}, Spec: v1.PodSpec{Containers: "
        "[]v1.Container{v1.Container{Env: []v1.EnvVar{v1.EnvVar{Name:'API_KEY', Value:'hunter2'}}}}}}" * 5
    )
    said = f'Job.batch "load" is invalid: spec.template: Invalid value: {template}: field is immutable'
    causes = [
        {
            "reason": "FieldValueInvalid",
            "message": f"Invalid value: {template}: field is immutable",
            "field": "spec.template",
        }
    ]
    for details in ({"causes": causes}, {}):
        e = refused(422, json.dumps({"message": said, "reason": "Invalid", "details": details}).encode())
        assert e.immutable
        assert "spec.template" in e.message
        assert "field is immutable" in e.message
        assert "hunter2" not in str(e)


@pytest.mark.parametrize(
    "said",
    [
        "spec: Forbidden: spec is immutable after creation except resources.requests and "
        "volumeAttributesClassName for bound claims",
        'roleRef: Invalid value: {"apiGroup":"g","kind":"Role","name":"b"}: cannot change roleRef',
        "spec.selector: Invalid value: {}: field is immutable",
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden",
    ],
)
def test_what_must_be_made_anew_is_known(said: str) -> None:
    assert refused(422, json.dumps({"message": said}).encode()).immutable


@pytest.mark.parametrize(
    "body", [b"", b"<html>busy</html>", b"[]", b"null", b'{"a":1}', b"[" * 10_000, b"\xff"]
)
def test_a_body_that_is_no_status_is_told_cut_short(body: bytes) -> None:
    e = refused(503, body)
    assert e.code == 503
    assert len(e.message) < 400


def test_warnings_are_texts() -> None:
    header = r'299 - "would violate PodSecurity \"restricted:latest\": runAsNonRoot != true"'
    assert warnings_of([header, "garbage", '199 - "other"']) == [
        'would violate PodSecurity "restricted:latest": runAsNonRoot != true'
    ]
