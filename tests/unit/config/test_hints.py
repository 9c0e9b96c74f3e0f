"""A wrong spec is answered in the words of its author: by meaning, with the place, and never with Python's words."""

from __future__ import annotations

import json
import re

import pytest

from seawall.config.hints import keys_at, of_key, plain
from seawall.config.load import parse_fleets
from seawall.config.meanings import HERE, MEANS, WRITTEN
from seawall.engines.vllm.versions import flags
from seawall.errors import InputError

HEAD = "apiVersion: seawall.dev/v1alpha1\nkind: Fleet\nmetadata: {name: mine}\nspec:\n  model: {source: 'hf://a/b'}\n"


def refused(text: str) -> str:
    with pytest.raises(InputError) as e:
        parse_fleets(HEAD + text, "f.yaml")
    return f"{e.value.message}\n{e.value.cure}"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("  replicas: 3", "spec.scaling.min"),
        ("  minReplicas: 3", "spec.scaling.min"),
        ("  scaling: {minReplicas: 3}", "write min"),
        ("  scaling: {maxReplicas: 3}", "write max"),
        ("  hardware: {gpus: 2}", "write gpusPerReplica"),
        ("  hardware: {count: 2}", "write gpusPerReplica"),
        ("  hardware: {gpu_count: 2}", "write gpusPerReplica"),
        ("  hardware: {gpu-type: L4}", "write gpu"),
        ("  engine: {tensorParallel: 2}", "spec.hardware.tensorParallel"),
        ("  engine: {tensor_parallel_size: 2}", "spec.hardware.tensorParallel"),
        ("  engine: {vllmArgs: []}", "write extraArgs"),
        ("  engine: {args: []}", "write extraArgs"),
        ("  vllmArgs: []", "spec.engine.extraArgs"),
        ("  model: 3\n  max_model_len: 3", "stands here twice"),
        ("  engine: {--max-model-len: 3}", "spec.traffic.maxContext"),
        ("  engine: {max_num_seqs: 3}", "did you mean maxNumSeqs?"),
        ("  engine: {maxNumSeq: 3}", "did you mean maxNumSeqs?"),
        ("  namespace: x", "it belongs in metadata.namespace"),
        ("  quantization: fp8", "it belongs in spec.model.quantization"),
        ("  rollout: {drian: 3s}", "did you mean drain?"),
        ("  nonsense: 3", "known here: model, engine"),
    ],
)
def test_a_wrong_key_is_read_by_its_meaning(text: str, hint: str) -> None:
    said = refused(text)
    assert hint in said
    assert "f.yaml:" in said
    assert "did you mean cloud" not in said


def test_every_hint_leads_to_a_place_that_exists() -> None:
    for word, path in (MEANS | HERE).items():
        assert word == ".".join(map(plain, word.split(".")))
        *parents, key = path.partition(":")[0].split(".")
        assert key in keys_at(parents), path
    assert not set(WRITTEN) & set(MEANS)
    assert all(word == plain(word) for word in WRITTEN)


def test_every_value_that_a_hint_writes_is_taken() -> None:
    for said in {path for path in (MEANS | HERE).values() if ": " in path}:
        path, _, value = said.partition(": ")
        _, room, key = path.split(".")
        parse_fleets(HEAD + f"  {room}: {{{key}: {value}}}", "f.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("  scaling: {min: many}", "'many' is not right; write a whole number"),
        ("  scaling: {min: 0.5}", "0.5 is not right; write a whole number"),
        ("  scaling: {min: -1}", "-1 is not right; write a number that is at least 0"),
        ("  scaling: {min: true}", "true is not right; write a number"),
        ("  scaling: {target: yes}", "true is not right; write a number"),
        ("  scaling: {min: null}", "nothing (null) is not right"),
        ("  engine: {kind: tgi}", "'tgi' is not right; write vllm or sim"),
        ("  engine: {extraArgs: --x}", "'--x' is not right; write a list"),
        ("  engine: {env: [A]}", "a list is not right; write a mapping"),
        ("  gateway: [1]", "a list is not right; write a mapping"),
        ("  gateway: null", "leave it out"),
        ("  gateway: {keysFile: 5}", "5 is not right; write a text"),
        ("  gateway: {resume: often}", "write exact, best-effort or off"),
        ("  hardware: {expertParallel: maybe}", "write true or false"),
        ("  rollout: {canary: {steps: [{weight: 101}]}}", "write a number that is at most 100"),
        ("  hardware: {gpu: A100}", "sold with 40 or 80 GB; write A100-40GB or A100-80GB"),
        ("  hardware: {gpu: v100}", "write V100-16GB or V100-32GB"),
    ],
)
def test_a_wrong_value_says_what_to_write(text: str, says: str) -> None:
    said = refused(text)
    assert says in said
    assert not re.search(
        r"pydantic|instance of|input should|dictionary|dataclass|NoneType|unable to parse", said, re.I
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\tengine: {kind: vllm}", "a tab stands there"),
        ("  engine:\n  \tkind: vllm", "a tab stands there"),
        ("  engine: {{ .Values.engine }}", "template"),
        ("  engine: kind: vllm", "a text with a colon needs quotes"),
    ],
)
def test_broken_yaml_says_what_people_did(text: str, says: str) -> None:
    said = refused(text)
    assert says in said
    assert re.search(r"f\.yaml:\d+:\d+: ", said)
    assert "Mend" not in said


OTHER_TOOLS = """
autoscaling_config: {} = write scaling
autoscaler: {} = write scaling
replica_policy: {} = write scaling
keda: {} = write spec.scaling.by: keda-prometheus
hpa: {} = write spec.scaling.by: hpa
image: vllm/vllm-openai = write spec.engine.image
modelSpec: [] = write model
num_parallel: 4 = write spec.engine.maxNumSeqs
keep_alive: 5m = write spec.scaling.idleAfter
max_batch_prefill_tokens: 3 = write spec.engine.maxNumBatchedTokens
volumes: [] = write cache
port: 8000 = seawall up --port
service: {port: 80} = Seawall writes it by itself
livenessProbe: {} = Seawall writes it by itself
podDisruptionBudget: {} = Seawall writes it by itself
ngl: 99 = all layers are on the GPU
kv_cache_dtype: fp8 = it belongs in spec.engine.kvCacheDtype
scaling: {targetOngoingRequests: 5} = write target
scaling: {cooldown: 60} = write idleAfter
scaling: {scaleToZero: true} = write min: 0
scaling: {stabilizationWindowSeconds: 300} = write downWindow
scaling: {initialReplicas: 2} = write min
hardware: {accelerator_type: L4} = write gpu
hardware: {acceleratorCount: 2} = write gpusPerReplica
hardware: {vram: 24} = write gpu
hardware: {zone: a} = write nodeLabels
hardware: {numNodes: 2} = write gpusPerNode
hardware: {shm_size: 2Gi} = Seawall writes it by itself
hardware: {requestMemory: 1Gi} = write memory
engine: {tool_call_parser: hermes} = extraArgs: [--tool-call-parser, VALUE]
engine: {enableAutoToolChoice: true} = extraArgs: [--enable-auto-tool-choice]
engine: {hf_token: x} = write spec.cache.tokenSecret
engine: {temperature: 1} = it belongs in each request
engine: {logLevel: x} = VLLM_LOGGING_LEVEL
traffic: {inputTokens: 4} = write promptTokens
traffic: {max_tokens: 4} = write outputTokens
gateway: {rateLimit: 3} = write tenants
gateway: {replicaCount: 3} = write replicas
gateway: {numReplicas: 3} = write replicas
spotInstances: true = spec.hardware.spot
sla: {ttft: 1s} = spec.traffic.slo
parallelism: 2 = spec.hardware.tensorParallel
framework: vllm = write engine
gateway: {stickySessions: true} = write sessionHeader
gateway: {domain: x} = write hosts
gateway: {routingLogic: x} = the gateway routes
cache: {storageSize: 3} = write size
cache: {hostPath: x} = write path
cache: {enabled: true} = known here: kind
rollout: {type: RollingUpdate} = known here: maxSurge
"""


@pytest.mark.parametrize("line", OTHER_TOOLS.strip().splitlines())
def test_the_words_of_other_tools_lead_to_where_a_fleet_says_it(line: str) -> None:
    text, _, hint = line.rpartition(" = ")
    assert hint in refused(f"  {text}")


def test_every_flag_of_vllm_as_a_key_leads_to_what_is_accepted() -> None:
    written: list[str] = []
    for name in (n for n, flag in flags().items() if n.startswith("--") and not flag.removed):
        hint = of_key(("spec", "engine", name.lstrip("-").replace("-", "_")))
        wanted = re.search(r"extraArgs: \[(--[\w-]+)(, VALUE)?\]", hint)
        if wanted is not None:
            written += [wanted[1], "1"] if wanted[2] else [wanted[1]]
        else:
            assert re.match(r"write |did you mean|it belongs in|a Fleet does not say this", hint), (
                name,
                hint,
            )
    assert len(written) > 200
    parse_fleets(HEAD + f"  engine: {{extraArgs: {json.dumps(written)}}}", "f.yaml")


def test_a_slip_of_the_pen_is_told_from_another_word() -> None:
    assert "outputTokens" not in refused("  traffic: {inputTokenz: 4}").partition("known here")[0]
    assert "did you mean downWindow?" in refused("  scaling: {downWindw: 4}")
