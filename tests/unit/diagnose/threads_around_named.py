"""Nodes, scalers, volumes and queues around engines, whose messages name the cure."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from seawall.diagnose.facts import Facts

from .shapes import (
    CORE,
    Case,
    alive,
    engine,
    hpa_without,
    init_died,
    refused_scaler,
    scaler_says,
    traced,
    unmounted,
)
from .test_catalogue import NO, died, event, node, pod, unplaced, waiting

CASES: list[Case] = [
    (('scale/trigger-fails',), ['authModes'], scaler_says("KEDAScalerFailed","prometheus query api returned error. status: 401 response: <html>\r\n<head><title>401 Authorization Required</title></head>")),
    (('scale/not-ready',), ['TriggerAuthentication'], refused_scaler("error parsing prometheus metadata: bearer token=<empty> is required when bearer auth is enabled")),
    (('scale/trigger-fails',), ['workload identity'], scaler_says("KEDAScalerFailed","error creating prometheus scaler: error while init Azure Managed Prometheus client http transport: sources must contain at least one TokenCredential")),
    (('scale/not-ready',), ['podIdentity', 'authModes'], refused_scaler("error parsing prometheus metadata: pod identity cannot be enabled with other auth types")),
    (('gpu/device-plugin',), ['restart', 'device plugin'], alive("2023/06/12 09:21:24 Loading NVML\n2023/06/12 09:21:25 Starting FS watcher.\n2023/06/12 09:21:25 Starting OS watcher.\n2023/06/12 09:21:25 Retreiving plugins.\n2023/06/12 09:21:25 No devices found. Waiting indefinitely.\n",name="nvidia-device-plugin-ctr")),
    (('scheduling/no-gpu-nodes',), ['device plugin', 'runtime'], unplaced("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",[node(gpus=0)])),
    (('scheduling/volume-zone',), ['zone'], unplaced("0/6 nodes are available: 1 node(s) had volume node affinity conflict, 2 node(s) didn't match Pod's node affinity/selector, 3 Insufficient cpu.")),
    (('scheduling/affinity',), ['affinity'], unplaced("0/4 nodes are available: 1 node(s) didn't match pod affinity rules, 3 Insufficient nvidia.com/gpu. preemption: 0/4 nodes are available: 1 Preemption is not helpful for scheduling, 3 No preemption victims found for incoming pod.",[node("a",gpus=1),node("b",gpus=0),node("c",gpus=0),node("d",gpus=0)],containers=[{"name":"vllm","image":"x","resources":{"limits":{"nvidia.com/gpu":"1"}}}])),
    (('scale/hpa-no-metric',), ['external'], hpa_without("FailedGetExternalMetric","unable to get external metric default/active_connections_total/nil: unable to fetch metrics from external metrics API: the server could not find the requested resource (get active_connections_total.external.metrics.k8s.io)")),
    (('scale/hpa-no-metric',), ['role'], hpa_without("FailedGetExternalMetric","unable to get external metric default/solr_metrics/nil: unable to fetch metrics from external metrics API: solr_metrics.external.metrics.k8s.io is forbidden: User \"system:serviceaccount:kube-system:horizontal-pod-autoscaler\" cannot list resource \"solr_metrics\" in API group \"external.metrics.k8s.io\" in the namespace \"default\"")),
    (('scale/hpa-no-metric',), ['keda', 'metrics-apiserver'], hpa_without("FailedGetExternalMetric","unable to get external metric api/s0-prometheus-nginx_ingress_requests/&LabelSelector{MatchLabels:map[string]string{scaledobject.keda.sh/name: app-scaledobject,},MatchExpressions:[]LabelSelectorRequirement{},}: unable to fetch metrics from external metrics API: the server is currently unable to handle the request (get s0-prometheus-nginx_ingress_requests.external.metrics.k8s.io)")),
    (('gpu/out-of-memory',), ['--max-num-seqs', '--enforce-eager'], engine("INFO 03-27 06:00:00 [gpu_model_runner.py:1500] Capturing CUDA graph shapes:  23%\n"+traced("vllm/v1/worker/gpu_worker.py","vllm/v1/worker/gpu_model_runner.py","torch/cuda/graphs.py","torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB. GPU 6 has a total capacity of 44.53 GiB of which 448.00 KiB is free. Process 1 has 44.52 GiB memory in use."))),
    (('cluster/rights',), ['Role'], alive('E0812 09:11:02.117382 1 reflector.go:200] "Failed to watch" err="failed to list *v1alpha2.InferenceObjective: inferenceobjectives.inference.networking.x-k8s.io is forbidden: User \\"system:serviceaccount:default:vllm-llama3-8b-instruct-epp\\" cannot list resource \\"inferenceobjectives\\" in API group \\"inference.networking.x-k8s.io\\" in the namespace \\"default\\""\n',ready=False,name="epp")),
    (('node/evicted',), ['volume', 'ephemeral-storage'], Facts(pods=[pod(status={"phase":"Failed","reason":"Evicted","message":"The node was low on resource: ephemeral-storage. Threshold quantity: 10120387530, available: 9166736Ki. Container llm was using 57900024Ki, request is 0, has larger consumption of ephemeral-storage. "})])),
    (('image/network',), ['again', 'network'], waiting("ErrImagePull",'rpc error: code = FailedPrecondition desc = failed to pull and unpack image "ghcr.io/x/base:python-3.10": failed commit on ref "layer-sha256:a6daac42": "layer-sha256:a6daac42" failed size validation: 6239744 != 17386982: failed precondition')),
    (('memory/oom-killed',), ['memory limit'], init_died("INFO:root:Copying contents of s3://m to local",137,"OOMKilled")),
    (('gpu/no-driver',), ['kernel'], died("========== NVIDIA Software Installer ==========\n\nStarting installation of NVIDIA driver version 450.80.02 for Linux kernel version 4.15.0-115-generic\n\nStopping NVIDIA persistence daemon...\nUnloading NVIDIA driver kernel modules...\nUnmounting NVIDIA driver rootfs...\nChecking NVIDIA driver packages...\nUpdating the package cache...\nResolving Linux kernel version...\nCould not resolve Linux kernel version\nStopping NVIDIA persistence daemon...\nUnloading NVIDIA driver kernel modules...\nUnmounting NVIDIA driver rootfs...\n")),
    (('container/crash',), ['preparedataplugins'], died('{"level":"info","ts":"2026-06-17T10:00:00Z","logger":"setup","msg":"GIE build"}\n{"level":"error","ts":"2026-06-17T10:00:01Z","logger":"setup","caller":"runner/runner.go:211","msg":"Failed to parse configuration","error":"feature gate \'prepareDataPlugins\' is unknown or unregistered"}\n')),
    (('gpu/device-plugin',), ['memory', 'gpu-mem'], waiting("RunContainerError",'failed to start container "binpack-2": Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running hook #0: error running hook: exit status 1, stdout: , stderr: Auto-detected mode as \'legacy\' nvidia-container-cli: device error: no-gpu-has-128MiB-to-run: unknown device: unknown')),
    (('gpu/driver-too-old',), ['older CUDA'], waiting("RunContainerError",'OCI runtime create failed: container_linux.go:348: starting container process caused "process_linux.go:402: container init caused \\"running prestart hook 0 caused \\\\\\"error running hook: exit status 1, stdout: , stderr: exec command: [/usr/bin/nvidia-container-cli --load-kmods configure --device=GPU-0f04 --compute --utility --require=cuda>=10.1 brand=tesla,driver>=384,driver<385 --pid=11889]\\\\nnvidia-container-cli: requirement error: invalid expression\\\\n\\\\\\"\\"": unknown')),
    (('node/evicted',), ['cache'], Facts(pods=[pod(status={"phase":"Failed","reason":"Evicted","message":"Pod ephemeral local storage usage exceeds the total limit of containers 5000Gi. "})])),
    (('memory/oom-killed',), ['memory limit'], died("LMCache INFO: Server started at 0.0.0.0:8080\n",137,"OOMKilled")),
    (('scheduling/no-node-type',), ['nodepool', 'instance'], unplaced('Failed to schedule pod, incompatible with nodepool "rag-nodepool", daemonset overhead={"cpu":"210m","memory":"240Mi","pods":"7"}, no instance type satisfied resources {"cpu":"210m","ephemeral-storage":"20Gi","memory":"240Mi","nvidia.com/gpu":"1","pods":"8"} and requirements karpenter.sh/capacity-type In [on-demand spot], karpenter.sh/nodepool In [rag-nodepool]')),
    (('scheduling/cloud-capacity',), ['capacity', 'zone'], Facts(pods=[pod()],nodes=[node("cpu-1",gpus=0)],events=[event("FailedScheduling",NO+"3 Insufficient nvidia.com/gpu."),event("Nominated","Pod should schedule on: nodeclaim/gpu-g5-4-kpxk7"),event("InsufficientCapacityError","NodeClaim gpu-g5-4-kpxk7 event: insufficient capacity, all requested instance types were unavailable during launch","gpu-g5-4-kpxk7","NodeClaim")])),
    (('storage/mount',), ['fsGroupChangePolicy'], unmounted("Unable to attach or mount volumes: unmounted volumes=[vol-1], unattached volumes=[], failed to process volumes=[]: timed out waiting for the condition")),
    (('storage/mount',), ['driver', 'restart'], unmounted('MountVolume.SetUp failed for volume "pvc-737f9975" : rpc error: code = Aborted desc = An operation with the given Volume ID nfs0.x#vol/brick0/nfs#pvc-737f9975## already exists')),
    (('storage/mount',), ['2049'], unmounted('MountVolume.SetUp failed for volume "efs-pv" : rpc error: code = DeadlineExceeded desc = context deadline exceeded')),
    (('gpu/memory-taken',), ['HAMi'], engine("[HAMI-core ERROR (utils.c:160)]: host pid is error!\n"+traced(CORE,"vllm/v1/worker/gpu_worker.py","AssertionError: Error in memory profiling. Initial free memory 23.4375 GiB, current free memory 23.4375 GiB. This happens when other processes sharing the same container release GPU memory while vLLM is profiling during initialization. To fix this, ensure consistent GPU memory allocation or isolate vLLM in its own container."))),
    (('gpu/out-of-memory',), ['HAMi', 'newer'], died("[HAMI-core ERROR (pid:1 thread=140160828682240 allocator.c:53)]: Device 0 OOM 18446744073707737660 / 24146608128\n")),
    (('scheduling/gated',), ['podgroup'], unplaced("1/1 tasks in gang unschedulable: pod group is not ready, 1 Pending, 1 minAvailable; Pending: 1 Undetermined")),
    (('scheduling/gated',), ['queue'], unplaced("queue resource quota insufficient: insufficient nvidia.com/gpu")),
    (('gpu/no-driver',), ['nvidia-smi'], waiting("RunContainerError",'linux runtime spec devices: error gathering device information while adding custom device "/dev/nvidia0": lstat /dev/nvidia0: no such file or directory')),
    (('gpu/not-visible',), ['runtime'], waiting("RunContainerError",'failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "nvidia-smi": executable file not found in $PATH: unknown')),
    (('scheduling/cloud-capacity',), ['quota', 'cloud'], Facts(pods=[pod()],nodes=[node("cpu-1",gpus=0)],events=[event("FailedScheduling",NO+"3 Insufficient nvidia.com/gpu."),event("Launch failed","launching nodeclaim, creating instance, with fleet error(s), VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket that the specified instance type belongs to.","nvidia-gpu-n5vf5","NodeClaim")])),
]  # fmt: skip
