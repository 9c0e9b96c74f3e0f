"""Any spec that is not refused renders: deterministically, to objects that are valid, whole and consistent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from seawall.config.load import dump_fleet, parse_fleets
from seawall.errors import InputError
from seawall.render.everything import render
from seawall.render.inputs import Group, Wanted
from seawall.render.yaml import dump_all

name = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
text = st.text(alphabet="abcXYZ019 .:_/-'\"#{}&*!%@`\\\n\t|>é", max_size=24)
seconds = st.integers(0, 4000).map(lambda n: f"{n}s")
maybe = st.booleans()


def optional(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    low = draw(st.integers(0, 4))
    cloud = draw(st.sampled_from(["gke", "eks", "karpenter", "aks", "on-prem", "local"]))
    spec: dict[str, Any] = {
        "model": {
            "source": draw(st.sampled_from(["hf://a/b", "s3://bucket/a", "gs://bucket/a"])),
            "revision": "abc",
            **draw(optional({"servedNames": st.lists(name, min_size=1, max_size=3, unique=True)})),
            **draw(
                optional(
                    {
                        "adapters": st.lists(
                            name.map(lambda n: {"name": f"lora-{n}", "source": f"hf://x/{n}"}),
                            max_size=2,
                            unique_by=lambda a: a["name"],
                        )
                    }
                )
            ),
        },
        "engine": draw(
            optional(
                {
                    "kind": st.sampled_from(["vllm", "sim"]),
                    "env": st.dictionaries(
                        st.from_regex(r"[A-Z][A-Z_]{0,12}", fullmatch=True), text, max_size=3
                    ),
                    "maxNumSeqs": st.integers(1, 4096),
                    "gpuMemoryUtilization": st.floats(0.1, 0.99),
                    "kvCacheMemory": st.sampled_from(["64Mi", "8Gi"]),
                    "prefixCaching": maybe,
                    "enforceEager": maybe,
                }
            )
        ),
        "hardware": {
            "gpu": draw(st.sampled_from(["H100-80GB", "L4", "T4", "cpu", "MI300X"])),
            "cloud": cloud,
            **draw(
                optional(
                    {
                        "spot": optional({"onDemandFloor": st.integers(0, 5), "notice": seconds}),
                        "spareGpus": maybe,
                        "guaranteed": maybe,
                        "cpu": st.floats(0.1, 64),
                        "nodeLabels": st.dictionaries(name, name, max_size=2),
                        "runtimeClass": name,
                        "priorityClass": name,
                        "tolerations": st.lists(
                            st.fixed_dictionaries({"key": name, "operator": st.just("Exists")}), max_size=2
                        ),
                    }
                )
            ),
        },
        "scaling": {
            "min": low,
            "max": max(1, low + draw(st.integers(0, 5))),
            **draw(
                optional(
                    {
                        "target": st.floats(0.5, 500),
                        "by": st.sampled_from(["keda-prometheus", "keda-gateway", "hpa", "none"]),
                        "downWindow": seconds,
                        "idleAfter": seconds,
                        "pollingInterval": seconds,
                    }
                )
            ),
        },
        "rollout": draw(optional({"drain": seconds, "preStop": seconds, "maxSurge": st.integers(1, 4)})),
        "cache": draw(
            optional(
                {
                    "kind": st.sampled_from(["pvc", "stream", "node-local", "host-path"]),
                    "accessMode": st.sampled_from(["ReadWriteMany", "ReadOnlyMany", "ReadWriteOnce"]),
                    "storageClass": name,
                    "dataSource": name,
                    "tokenSecret": name,
                }
            )
        ),
        "gateway": draw(
            optional(
                {
                    "route": st.sampled_from(
                        ["gateway-api", "istio", "inference-pool", "ingress", "service"]
                    ),
                    "parentGateway": st.sampled_from(["web", "infra/web"]),
                    "hosts": st.just(["llm.example.com"]),
                    "keysSecret": name,
                    "replicas": st.integers(1, 9),
                }
            )
        ),
        "monitoring": draw(
            optional(
                {"enabled": maybe, "dcgm": maybe, "kind": st.sampled_from(["pod-monitor", "service-monitor"])}
            )
        ),
    }
    if draw(maybe):
        new = draw(
            optional(
                {"version": st.just("0.31.0"), "revision": st.just("def"), "replicas": st.integers(1, 3)}
            )
        )
        spec["rollout"]["canary"] = {"candidate": new}
    namespace = draw(st.sampled_from(["default", "llm", "on"]))
    return {
        "apiVersion": "seawall.dev/v1alpha1",
        "kind": "Fleet",
        "metadata": {
            "name": draw(name),
            "namespace": namespace,
            "annotations": draw(st.dictionaries(name, text, max_size=2)),
        },
        "spec": spec,
    }


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(document=specs(), tp=st.sampled_from([1, 2, 8]), nodes=st.sampled_from([1, 1, 1, 2]))
def test_any_spec_renders_valid_objects_or_is_refused_with_a_cure(
    document: dict[str, Any], tp: int, nodes: int, planned: Callable[..., Any], valid: Callable[..., None]
) -> None:
    try:
        (fleet,) = parse_fleets(yaml.safe_dump(document))
        plan = planned(fleet, tensor_parallel=tp, gpus_per_replica=tp * nodes, nodes_per_replica=nodes)
        group = Group(members=(Wanted(fleet=fleet, plan=plan, document=dump_fleet(fleet)),))
        rendering = render(group)
    except InputError as e:
        assert e.message
        assert "Traceback" not in e.message
        event("refused: " + e.message.splitlines()[0].partition(": ")[2].partition(":")[0])
        return
    event("rendered")
    dumped = dump_all(rendering.objects)
    assert dumped == dump_all(render(group).objects)
    # What is written is what any reader gets back, and a schema accepts it.
    assert list(yaml.safe_load_all(dumped)) == list(rendering.objects)
    for obj in rendering.objects:
        valid(obj, ("1.34",))
    keys = [(o["apiVersion"], o["kind"], o["metadata"]["name"]) for o in rendering.objects]
    assert len(set(keys)) == len(keys)
    assert all(len(o["metadata"]["name"]) <= 63 for o in rendering.objects)


@settings(max_examples=200, deadline=None)
@given(
    value=st.recursive(
        text | st.integers() | maybe,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=12,
    )
)
def test_yaml_that_we_write_reads_back_as_it_was(value: Any) -> None:
    assert yaml.safe_load(dump_all([{"v": value}])) == {"v": value}


WORDS = """y n yes NO on Off true null ~ 1 1e3 0x1f 0o17 1_000 .5 1:30 2026-01-01 = << - ? : @a *a &a %a"""


@pytest.mark.parametrize("word", WORDS.split())
def test_words_that_readers_take_for_something_else_are_quoted(word: str) -> None:
    assert dump_all([{"v": word}]).splitlines()[1] == f'v: "{word}"'
