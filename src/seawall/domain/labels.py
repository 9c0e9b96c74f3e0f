"""Labels, annotations, ports and metric names by which our parts find each other: each is written here, and only here.

What renders, routes, operates, diagnoses and proves must agree on them to the letter; a test looks for their literals
everywhere else. No logic and no imports.
"""

from __future__ import annotations

HTTP_PORT = 8000
"""Engines and the gateway serve requests here; the port is named `http` in every object."""
ADMIN_PORT = 9090
"""The gateway's health, metrics and state; named `admin`."""
MASTER_PORT = 29500
"""Where the nodes of a multi-node replica meet."""

APP = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
PART_OF = "app.kubernetes.io/part-of"
MANAGED_BY = "app.kubernetes.io/managed-by"
VERSION = "app.kubernetes.io/version"

FLEET = "seawall.dev/fleet"
ROLE = "seawall.dev/role"
"""`engine` or `loader`; a gateway's Pods have none."""
GROUP = "seawall.dev/group"
"""`stable` or `canary`."""
POOL = "seawall.dev/pool"
"""Which Deployment of a fleet: `any`, or a kind of node."""
REPLICA = "seawall.dev/replica"
PORT = "seawall.dev/port"
ROLLOUT = "seawall.dev/rollout"
CANARY_WEIGHT = "seawall.dev/canary-weight"
"""Label of the canary's Service, copied by Kubernetes onto its EndpointSlices, where the gateway reads it:
percent of requests for the `canary` group."""

MODEL = "seawall.dev/model"
CONFIG = "seawall.dev/config"
"""Fingerprint of what a gateway cannot reload: another one makes new Pods."""
WEIGHT = "seawall.dev/weight"
"""Relative capacity of a replica."""
DRAINING = "seawall.dev/draining"
DRAINING_REASON = "seawall.dev/draining-reason"
ASLEEP = "seawall.dev/asleep"
"""Unix time since when it falls asleep, with a minus sign until it sleeps."""
ADAPTERS = "seawall.dev/adapters"
"""JSON: {"life": container ID, "names": [...]}; the gateway routes an adapter only to a life that has it."""
LINT_IGNORE = "seawall.dev/lint-ignore"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

ENGINE_APP = "vllm"
GATEWAY_APP = "seawall-gateway"
OPERATOR_APP = "seawall-operator"
PULL_APP = "seawall-pull"
ENGINES = f"{ROLE}=engine"
"""Selector of every engine Pod."""
GATEWAYS = f"{APP}={GATEWAY_APP}"
"""Selector of every gateway Pod."""
