"""The stories of causes around an engine: containers, nodes, GPUs, storage, routes. Text only, told by `stories.py`."""

from __future__ import annotations

TEXT = """
cluster/webhook
  An admission webhook is registered and nobody answers it: the API server can then make no object of that kind.
  Often an operator that was removed without its webhook configuration, or whose Pods do not run. Look at
  kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations and at the Pods of their Services.
container/crash
  The container's process ended with an error, and the log at hand does not show one that is known. Exit status
  2 is an argument that vLLM refuses, 1 an exception, 127 a missing program. Read the log from its first ERROR
  on: what stands last is mostly the echo of it in another process.
container/killed
  SIGKILL without the kernel's OOM mark: a grace period or a probe ended, or memory ran out on the whole node,
  where the kernel chooses a victim outside the container's own limit. The node's dmesg and the Pod's events
  tell.
container/missing-config
  The Pod names a Secret, ConfigMap or key that is not in its namespace; the kubelet tries again for ever, and
  starts the container as soon as it is there. Keys are case-sensitive.
container/cannot-start
  The runtime could not make the container; its message is the evidence. runAsNonRoot with an image whose user
  is root (or a name instead of a number) is the usual one.
container/no-program
  The container runtime looked for the program that `command` names and found none, or may not execute it.
  Kubernetes starts no shell: a whole command line in one string is looked for as one program of that name.
container/no-server
  The process ends with status 0, so nothing failed; a Deployment starts it again, and after some rounds the
  kubelet backs off. The command printed a help text, ran `vllm` without `serve`, or started the server in the
  background of a script that then ended.
controller/warns
  A controller or a kubelet wrote a warning about an object, and no rule knows its words: they stand as they are,
  with what such words mostly ask for. It counts behind every cause that is known.
disruption/pdb-blocks-drain
  Evictions are refused with 429 while a PodDisruptionBudget allows no disruption. minAvailable equal to the
  replicas allows none ever; unready Pods count against it unless unhealthyPodEvictionPolicy is AlwaysAllow. A
  risk until a node drains, a cause when one does.
image/disk-full
  The image is unpacked on the node's disk, and 10 GB compressed are more than 20 GB there.
image/invalid-name
  The reference is not one: an upper-case letter, a space, a tag and no name.
image/network
  The node itself (not the Pod) cannot reach the registry: DNS, proxy, firewall or a certificate.
image/not-found
  The registry answers, and knows no such repository or tag. vLLM's tags begin with v: v0.32.0.
image/platform
  The image has no build for the node's CPU architecture (arm64 on GB200 and GH200 nodes).
image/pull
  The image cannot be pulled, for a reason that the message does not give away.
image/rate-limited
  Docker Hub counts anonymous pulls per address: many nodes behind one NAT share a limit.
image/unauthorized
  The registry wants a login. Private registries answer the same for images that do not exist.
init/crash
  Init containers run one after the other before vLLM; one that fails is started again for ever, and vLLM never
  is. Its log is its own: kubectl logs POD -c NAME.
load/kv-full
  Nothing is broken: the KV cache is full and requests wait, so more load came than these replicas hold.
memory/oom-killed
  The kernel killed the container at its memory limit. GPU memory has no part in it. What counts: the process,
  /dev/shm (an emptyDir in memory), pinned buffers, KV offloading, and the page cache only as far as it cannot
  go.
node/evicted
  The kubelet pushed the Pod out to save its node: disk or memory ran low, or the Pod exceeded its own ephemeral
  storage. Guaranteed Pods go last. When a ready Pod of the same owner serves, what is left is history.
node/refused
  The scheduler placed the Pod and the kubelet sent it away: its own count of devices and labels at that moment was
  another. The Pod stays as Failed, a new one is made; the failed ones may be deleted.
node/going
  The node is about to go: a spot notice, a scale-down or an upgrade marked it. Its Pods drain.
node/not-ready
  The kubelet of the node does not report: the machine, its network or the kubelet is gone. Pods there are
  evicted after five minutes.
node/pressure
  The node reports that memory, disk or process ids run low: it evicts Pods and takes no new ones.
pod/stuck-terminating
  A Pod that was told to go stays: its node does not answer, a finalizer waits for its owner, or streams are
  still drained within the grace period.
probe/liveness
  The liveness probe failed failureThreshold times and the kubelet restarted the container. A saturated server
  answers late; a hung one not at all. Counters that moved before tell the two apart.
probe/liveness-while-loading
  Without a startupProbe the liveness probe judges from its initialDelaySeconds on, and a model that still loads
  looks dead to it. It is killed, and loads again from the beginning.
probe/port-mismatch
  The probe is refused on one port while the log says that the server listens on another.
probe/startup-too-short
  The kubelet's event says that the startup probe failed and the container is restarted; whatever its exit
  status (a server that stops cleanly on SIGTERM ends with 0). The budget is initialDelaySeconds + periodSeconds
  x failureThreshold, and the model, with a first download, took longer.
probe/wrong-path
  The probe reaches the server and asks for a path that it does not have. vLLM's is /health.
rollout/deadline
  No new Pod became available within progressDeadlineSeconds. That is what is seen: why stands with the new
  Pods. A Pod that only loads slowly needs a longer deadline, and nothing else.
rollout/no-controller
  The Deployment exists and nobody has looked at it: the controller manager does not run, or it was made a
  moment ago.
rollout/no-pods
  The ReplicaSet may not make Pods: a quota, Pod Security or a webhook refuses each.
rollout/no-surge-gpu
  maxSurge 1 starts the new Pod first, and no GPU is free for it; maxUnavailable 0 keeps the old one. Neither
  moves until somebody adds a node or lets an old Pod stop first.
route/body-too-large
  An ingress has a limit for bodies of its own, far below what a long prompt or a picture has: nginx's is 1 MiB. Clients
  see 413, and no engine ever hears of the request.
route/proxy-timeout
  A proxy waits 60 s for the first byte, or between two, unless it is told otherwise. A queue, a long prefill or an
  answer that is not streamed takes longer: the client sees 504, and the engine goes on for nobody.
route/dead-replica
  The gateway believes in a replica that is no Pod any more; its watch has missed something.
route/gateway-cannot-reach
  The kubelet reaches the engine (it is Ready) and a gateway does not: they take different ways. All gateways: a
  NetworkPolicy on the engine, or a server bound to one address. One of several: that gateway's node.
route/gateway-no-endpoints
  A gateway has nobody to send to. With Ready Pods beside it, its discovery is broken (rights, labels); without,
  it only shows what the Pods' causes explain.
route/gateway-silent
  A gateway did not tell its state to whoever diagnosed: its sums are missing. Often a policy keeps the API
  server's proxy out, and clients notice nothing.
route/none-ready
  A Service shows only ready Pods. That none is ready is what clients see, and never why.
route/selects-nothing
  The Service's selector and the Pods' labels do not agree: no endpoint, without any error.
route/stale-endpoints
  Ready Pods are selected and yet no endpoint is ready: the targetPort names a port that no container has, or
  the endpoint controller lags behind.
scale/at-max
  The autoscaler wants more than maxReplicas. The rest waits, or is refused with 429.
scale/blind
  KEDA makes a 0 of a query that returns nothing (ignoreNullValues is true by default). A metric's wrong name, a
  label that no Pod carries or a scrape that misses them keep the fleet at its minimum without any error.
scale/fallback
  KEDA could not read its metric failureThreshold times and holds the fallback's replicas.
scale/hpa-no-metric
  The HPA asked one of three APIs (resource, custom, external metrics) and got no value. Without one it scales
  nothing. For CPU of Pods that are not ready it is a symptom.
scale/hpa-reads-zero
  The metric is read and is 0, while the engines themselves report waiting requests: the adapter's query looks
  past them (another label, another name, another Prometheus). An HPA at 0 of its target never scales out.
scale/hpa-target
  The HPA cannot read or set its target's scale: the target does not exist, or has no scale subresource.
scale/not-ready
  KEDA refused the ScaledObject: its target, a trigger or another HPA is in the way; it made no HPA.
scale/paused
  The annotation autoscaling.keda.sh/paused holds the replicas where they are.
scale/trigger-fails
  KEDA is Ready and every poll of the trigger fails; the HPA keeps the replicas that there are.
scheduling/affinity
  The Pod's own anti-affinity or spread rules leave no node. `required` and DoNotSchedule are walls.
scheduling/cordoned
  Nodes that would fit are marked unschedulable: somebody drains them, or forgot to uncordon.
scheduling/dra
  The Pod claims a device (ResourceClaim) that no driver offers, or that is allocated elsewhere.
scheduling/gated
  A scheduling gate holds the Pod back: a queue such as Kueue lets it go when there is quota.
scheduling/host-port
  hostPort or hostNetwork: only one such Pod fits on a node.
scheduling/label
  nodeSelector or required affinity ask for a label that no node carries. Labels set by hand are lost when a
  node is replaced; the scheduler then says `didn't match Pod's node affinity/selector`.
scheduling/limit-range
  A LimitRange of the namespace bounds what one container or Pod may ask for, and this one asks for more, or less.
scheduling/cloud-capacity
  An autoscaler (Karpenter, the cluster autoscaler) wants a machine for the Pod, and the cloud refuses: the account's
  quota for that family is used up, or there is no machine of that type in that zone. The Pod itself is in order.
scheduling/no-node-type
  Karpenter compares what the Pod asks for with every instance type that its NodePools allow, less what DaemonSets
  take. None is left. A type that fits but that the cloud has none of is left out, too, and looks the same.
scheduling/node-never-joins
  A machine was made and started, and no node of that name came: its boot data, its identity or its network keep it
  from the API server. Karpenter gives up after 15 minutes and makes another, which fails alike.
scheduling/no-free-gpu
  There are GPU nodes, and all their GPUs are taken by Pods. An autoscaler may be adding one.
scheduling/no-gpu-nodes
  No node offers the resource: no GPU node, or the device plugin does not run on it (it tolerates no taint, or
  its own selector fits nothing).
scheduling/no-host-resources
  CPU, memory, ephemeral storage, huge pages or another resource (RDMA, EFA) of the fitting nodes is asked for already,
  or no node offers it. Requests count, not use.
scheduling/no-priority-class
  priorityClassName names an object that the cluster does not have: the API server refuses the Pod.
scheduling/no-service-account
  serviceAccountName names an account that the namespace does not have: the API server refuses the Pod.
scheduling/node-condition
  The nodes that fit are tainted by their own state: not ready, unreachable, under pressure.
scheduling/node-too-small
  No single node has as many GPUs as the Pod asks for.
scheduling/pod-security
  The namespace enforces a Pod Security level that the Pod does not meet; the ReplicaSet's events name each
  field.
scheduling/preempted
  A Pod of higher priority took the place. Serving Pods should rank above batch work.
scheduling/quota
  The namespace's ResourceQuota is used up.
scheduling/taint
  The nodes that fit carry a taint that the Pod does not tolerate. A toleration does not attract: it only
  permits.
scheduling/unplaced
  The scheduler places the Pod nowhere, for a reason that is not in the catalogue.
scheduling/volume-limit
  A node attaches a limited number of volumes.
scheduling/volume-zone
  The volume lives in one zone, and the nodes that fit are in another.
storage/claim-pending
  The claim is not bound: no such class, no default class, or an access mode that it does not have.
storage/claim-unbound
  The Pod waits for its claim; why the claim waits stands in the claim's own events.
storage/mount
  The volume is attached and cannot be mounted: its driver's message is the evidence.
storage/multi-attach
  A ReadWriteOnce volume is attached to another node, where an old Pod still holds it.
container/runtime-class
  runtimeClassName names a runtime that the cluster (no RuntimeClass object) or the node (no handler in containerd) does
  not have. k3s and RKE2 bring one named nvidia; elsewhere the GPU operator or nvidia-ctk makes it.
container/sandbox
  The Pod's sandbox, its network above all, cannot be made: addresses ran out, or the network plugin does not run there.
gpu/device-plugin
  The scheduler counted a GPU on the node, and the kubelet found none healthy when the Pod came: the plugin was
  restarted, a GPU failed, or two Pods raced. The Pod stays Failed; its owner makes another.
gpu/not-visible
  vLLM found no device. Without a GPU in the limits none is handed out. With one, the container runtime must put
  the node's driver into the container: runtimeClassName nvidia where that runtime is not the default, and on
  GKE /usr/local/nvidia/lib64 on LD_LIBRARY_PATH for CUDA 12 images.
gpu/driver-mismatch
  Two parts of one driver of different age: the library in the container and the kernel's module. An image's own
  cuda-compat library is older than a new driver (Error 803), or the node's driver was updated without a reboot
  (`Driver/library version mismatch`). The node's labels nvidia.com/cuda.driver-version.* tell which side is
  older.
gpu/driver-too-old
  The image's CUDA needs a newer driver than the node has. nvidia.com/cuda.runtime-version.* on the node is the
  newest CUDA that its driver runs.
container/segfault
  The process was ended by a signal of its own making (SIGSEGV, SIGILL, SIGABRT): native code crashed, so Python wrote
  no traceback. Kernels, libraries and a driver of different age, or a CPU without the instructions that an image was
  built for.
init/never-ends
  Init containers run one after the other, and the next begins when one has ended. A proxy or any other server among
  them never does, unless it has restartPolicy: Always and the cluster knows sidecars (1.29); a download may take long,
  and a wait may be for something that never comes.
probe/command-missing
  An exec probe runs inside the container, with the image's own programs. One that the image lacks fails every time,
  however well the server is.
probe/unauthorized
  With --api-key vLLM answers 401 on everything below /v1; /health, /ping and /metrics are open.
probe/scheme
  A probe asks in HTTP unless its scheme says HTTPS. vLLM speaks TLS only with --ssl-certfile; some presets (KServe's)
  set it.
probe/unreachable
  Not refused but unanswered: packets of the kubelet do not reach the Pod. The node's network, not the server.
probe/slow
  The connection is taken and the answer comes too late. The default of 1 s is short for a server whose CPU is throttled
  or that tokenizes a long prompt.
probe/localhost
  A server that is bound to 127.0.0.1 answers inside its Pod only; probes and Services ask the Pod's address.
probe/not-ready
  What is seen, not why: the container runs, nothing has died, and its probe fails for longer than a start usually
  takes. The probe's own words are quoted; the log says what the server does meanwhile.
gpu/driver-fails
  The device is there and the driver refuses to begin: a module that is missing (nvidia_uvm), a driver that was updated
  without a reboot, a device file that the container was not given, or a GPU that has failed.
cluster/rights
  Programs that look for Pods, Services or pools ask the API server as their service account. Without a Role that lets
  it list and watch them they find nothing, and mostly go on running: only their log tells.
"""
"""A cause's name at the margin, its story indented."""
