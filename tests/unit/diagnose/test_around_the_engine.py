"""What stands around an engine fails: rights, devices, toolkit, services, volumes, scalers, as public threads show it."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

import pytest

from seawall.diagnose.facts import Facts
from seawall.diagnose.run import diagnose

from .shapes import NOISE, alive, engine, init_died, refused_scaler, unmounted
from .test_catalogue import NO, died, event, hpa, node, scaled, unplaced, waiting

CASES: list[tuple[tuple[str, ...], list[str], Facts]] = [
    (("cluster/rights",), ["pods", "default"], alive('2025-07-29 21:13:00 ERROR sglang_router_rs::service_discovery: src/service_discovery.rs:322: Error in Kubernetes watcher: failed to perform initial object list: ApiError: pods is forbidden: User "system:serviceaccount:default:default" cannot list resource "pods" in API group "" in the namespace "default": Forbidden\n')),
    (("cluster/rights",), ["pods"], died('[2025-01-22 23:45:35,353] INFO: Scraping metrics from 0 serving engine(s)\nException in thread Thread-1 (_watch_engines):\nTraceback (most recent call last):\nkubernetes.client.exceptions.ApiException: (403)\nReason: Forbidden\nHTTP response body: {"kind":"Status","message":"pods is forbidden: User \\"system:serviceaccount:llm:router\\" cannot watch resource \\"pods\\" in API group \\"\\" in the namespace \\"llm\\"","reason":"Forbidden","code":403}\n')),
    (("cluster/rights",), ["inferencepools"], died('2025-08-27T10:00:00Z ERROR setup failed to list *v1.InferencePool: inferencepools.inference.networking.k8s.io is forbidden: User "system:serviceaccount:llm:epp" cannot list resource "inferencepools" in API group "inference.networking.k8s.io" in the namespace "llm"\n')),
    (("scheduling/no-gpu-nodes",), [], unplaced(NO + "1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint(s).", [node("a", gpus=0), node("b", gpus=0)])),
    (("gpu/toolkit",), ["toolkit"], died("I1022 18:32:39.567245       1 main.go:357] \nE1022 18:32:39.570000       1 factory.go:112] Incompatible strategy detected auto\nE1022 18:32:39.570001       1 factory.go:113] If this is a GPU node, did you configure the NVIDIA Container Toolkit?\nE1022 18:32:39.571000       1 main.go:173] error starting plugins: error getting plugins: unable to create plugins: failed to construct resource managers: invalid device discovery strategy\n")),
    (("gpu/toolkit",), ["toolkit"], waiting("RunContainerError", "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: ldcache error: process /sbin/ldconfig terminated with signal 9: unknown")),
    (("engine/build","engine/import"), ["built"], engine("AttributeError: '_OpNamespace' '_moe_C' object has no attribute 'topk_softmax'")),
    (("engine/unsupported-gpu", "engine/no-nvcc"), [], engine("RuntimeError: FlashInfer requires GPUs with sm75 or higher")),
    (("engine/unsupported-gpu",), ["new"], engine("RuntimeError: Currently, block scaled fp8 gemm is not implemented for Blackwell")),
    (("scale/not-ready",), ["serverAddress"], refused_scaler('error parsing prometheus metadata: missing required parameter "serverAddress" in [triggerMetadata]')),
    (("scale/blind",), ["nothing"], Facts(scaledobjects=[scaled([{"type": "Ready", "status": "True"}], query='inference_pool_average_kv_cache_utilization{name="qwen"}')], hpas=[hpa([{"type": "ScalingActive", "status": "True"}], currentMetrics=[{"type": "External", "external": {"metric": {"name": "s0-prometheus"}, "current": {"averageValue": "0"}}}])], metrics={"vllm:num_requests_waiting": {"a": 31.0}})),
    (("gpu/not-visible",), ["runtimeClass"], died("INFO 05-20 20:12:25 [__init__.py:252] No platform detected, vLLM is running on UnspecifiedPlatform\nTraceback (most recent call last):\nRuntimeError: Failed to infer device type\n")),
    (("engine/bad-config",), ["hybrid"], engine("ValueError: Hybrid KV cache manager is disabled but failed to convert the KV cache specs to one unified type.")),
    (("engine/exception", "engine/bad-config"), ["External KV connector"], engine("  assert num_external_computed_tokens == 0, (\nAssertionError: External KV connector is not verified yet")),
    (("engine/connector",), ["offloading/scheduler.py"], engine('Traceback (most recent call last):\n  File "/usr/local/lib/python3.12/dist-packages/vllm/v1/core/sched/scheduler.py", line 801, in schedule\n    self.connector.update_state_after_alloc(\n  File "/usr/local/lib/python3.12/dist-packages/vllm/distributed/kv_transfer/kv_connector/v1/offloading/scheduler.py", line 734, in update_state_after_alloc\n    num_locally_computed_tokens\nAssertionError')),
    (("container/segfault", "engine/nixl"), ["nixl"], died("INFO 07-20 10:00:00 [nixl_connector.py:1] NIXL compatibility check passed\n!!!!!!! Segfault encountered !!!!!!!\n  File \"<unknown>\", line 0, in nixlAgent::loadRemoteMD(std::string const&)\n", 139)),
    (("engine/nixl",), [], engine("nixl_cu12._bindings.nixlBackendError: NIXL_ERR_BACKEND")),
    (("engine/peer-unreachable",), ["2379"], died('2025-05-23T02:00:00Z ERROR dynamo_runtime::worker: Application shutdown with error: Failed to connect to etcd server with config ClientOptions { etcd_url: ["http://localhost:2379"], etcd_connect_options: None, attach_lease: true }\n\nCaused by:\n    0: creating primary lease\n    1: grpc request error: status: Unavailable, message: "tcp connect error: Connection refused (os error 111)"\n')),
    (("engine/peer-unreachable",), ["NATS"], died("2026-06-15T10:00:00.000Z  INFO dynamo_runtime: starting\nException: Failed to connect to NATS: timed out. Verify NATS server is running and accessible.\n")),
    (("gpu/not-visible",), [], engine("RuntimeError: No HIP GPUs are available")),
    (("engine/unsupported-gpu",), [], engine("torch.AcceleratorError: HIP error: no kernel image is available for execution on the device")),
    (("memory/oom-killed",), [], init_died("INFO:root:Initializing, args: src_uri [hf://Qwen/Qwen3.5-35B-A3B] dest_path[ [/mnt/models]\n", 137, "OOMKilled")),
    (("scale/trigger-fails",), ["reach"], Facts(scaledobjects=[scaled([{"type": "Ready", "status": "True"}], )], events=[event("KEDAScalerFailed", 'Get "http://frontend.management:9090/api/v1/query?query=x": context deadline exceeded (Client.Timeout exceeded while awaiting headers)', "chat", "ScaledObject")])),
    (("storage/mount",), ["gke-gcsfuse/volumes"], unmounted('MountVolume.SetUp failed for volume "gcs-fuse-csi-pv" : rpc error: code = FailedPrecondition desc = failed to find the sidecar container in Pod spec')),
    (("storage/mount",), ["account", "gke-gcsfuse"], unmounted('MountVolume.SetUp failed for volume "models" : rpc error: code = PermissionDenied desc = failed to get GCS bucket "llm-models": googleapi: Error 403: Caller does not have storage.objects.list access to the Google Cloud Storage bucket.')),
    (("storage/mount",), ["driver"], unmounted('MountVolume.MountDevice failed for volume "gcs-fuse-csi-pv" : kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: driver name gcsfuse.csi.storage.gke.io not found in the list of registered CSI drivers')),
    (("weights/bucket", "weights/forbidden"), ["bucket"], engine("Exception: Could not send runai_request to libstreamer due to: b'File access error'")),
    (("container/limits",), ["thread"], died("Traceback (most recent call last):\n  File \"/usr/lib/python3.12/threading.py\", line 994, in start\n    _start_new_thread(self._bootstrap, ())\nRuntimeError: can't start new thread\n")),
    (("engine/no-user",), ["USER"], died("Traceback (most recent call last):\n  File \"torch/_inductor/runtime/cache_dir_utils.py\", line 23, in default_cache_dir\nKeyError: 'getpwuid(): uid not found: 1003520000'\n")),
    (("engine/ray-no-gpu",), ["accelerator_type"], alive("WARNING 2026-03-24 03:17:59,398 controller 1684 deployment_state.py:2152 - Deployment 'VLLMDeployment' in application 'llm' has 1 replicas that have taken more than 30s to be scheduled. This may be due to waiting for the cluster to auto-scale or for a runtime environment to be installed. Resources required for each replica: [{\"CPU\": 1.0, \"accelerator_type:A10\": 0.01, \"GPU\": 1.0}], total resources available: {\"CPU\": 7.0}. Use `ray status` for more details.\n", name="ray-head")),
    (("engine/nccl",), [], died(NOISE + "[rank1]:[E ProcessGroupNCCL.cpp:1316] [PG 2 Rank 1] Heartbeat monitor timed out! Process will be terminated after dumping debug info. workMetaList_.size()=138\n[rank1]:[F ProcessGroupNCCL.cpp:1169] [PG 2 Rank 1] [PG 2 Rank 1] ProcessGroupNCCL's watchdog got stuck for 600 seconds without making progress in monitoring enqueued collectives.\n", 134)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ids", "words", "facts"), CASES, ids=[f"{c[0][0]}-{n}" for n, c in enumerate(CASES)]
)
def test_the_first_cause_is_the_one_that_was_found(
    ids: tuple[str, ...], words: list[str], facts: Facts
) -> None:
    first = diagnose(facts)[0]
    assert first.id in ids, first.what
    for word in words:
        assert word.lower() in f"{first.what} {first.do}".lower()
