"""What the linter knows of one object: the object, the Pods in it that run vLLM, their engines. Data and look-ups.

How a kind is read is `kinds.py` and `controllers.py`; how objects belong together is `world.py`. No rule here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from seawall.engines.vllm.versions import Version
from seawall.lint.command import SERVES, Command
from seawall.lint.image import chips
from seawall.lint.node import YamlNode

_GPU_KEYS = (
    ("nvidia", re.compile(r"nvidia\.com/(gpu(\.shared)?|mig-.*|[A-Z].*)")),
    ("amd", re.compile(r"amd\.com/gpu")),
    ("tpu", re.compile(r"google\.com/tpu")),
    ("intel", re.compile(r"gpu\.intel\.com/(i915|xe)|habana\.ai/gaudi")),
    ("ascend", re.compile(r"huawei\.com/[Aa]scend.*")),
    ("neuron", re.compile(r"aws\.amazon\.com/neuron.*")),
    (
        "other",
        re.compile(r".*/(v?gpu|gpu-?(mem|core|count|num|percent)\w*|vgpu-.*|npu|mlu|gcu|dcu.*|vcuda-.*)$"),
    ),
)
RUN_ONCE = {
    "Job", "CronJob", "JobSet", "RayJob", "Workflow", "WorkflowTemplate", "CronWorkflow", "Task", "TaskRun", "Pipeline",
    "PipelineRun", "PyTorchJob", "MPIJob", "TrainJob",
}  # fmt: skip
_NO_DEVICE = re.compile(
    r"(^|/)(hugepages-|ephemeral-storage)|rdma|roce|infiniband|ib$|efa|sriov|hca|vni|memory$|cpu$"
)


@dataclass(eq=False)
class Obj:
    """One Kubernetes object. `fragment` marks a snippet without kind that was not joined to an object."""

    node: YamlNode
    kind: str
    api: str
    name: str
    namespace: str
    fragment: bool = False

    @property
    def shown(self) -> str:
        return f"{self.kind}/{self.name}" if self.name else self.kind

    @property
    def spec(self) -> YamlNode:
        return self.node["spec"]


@dataclass(frozen=True, eq=False)
class Given:
    """What a controller's own YAML says of an engine beside its command line."""

    gpus: int = 0
    gpus_node: YamlNode | None = None
    vendor: str = ""
    gpu_name: str = ""
    """The GPU's name in a profile or an instance type."""
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    data_parallel: int | None = None
    data_local: int | None = None
    """Data-parallel ranks in one Pod."""
    replicas: int = 1
    """The fewest that run at once, where the controller's YAML says so beside the Pods."""
    env: tuple[YamlNode, ...] = ()
    """Variables that a controller sets, as items with `name` and `value`; the first of a name wins, and over the
    container's own."""
    from_maps: tuple[YamlNode, ...] = ()
    """Variables of ConfigMaps that the container's `envFrom` names; its own win."""


_VARIABLE = re.compile(r"""["']?\$[{(]?(\w+)[)}]?["']?""")
"""A word that is one variable, of a shell or of the kubelet."""


def env_items(variables: YamlNode) -> tuple[YamlNode, ...]:
    """A mapping of variables as the items that a container's env has."""
    return tuple(
        YamlNode(
            node.path,
            node.span,
            node.file,
            entries={"name": replace(node, value=name), "value": node},
            key=node.key,
        )
        for name, node in variables.items()
    )


@dataclass(eq=False)
class Container:
    """One container of a pod that runs vLLM."""

    node: YamlNode
    command: Command
    version: Version
    """The version in the image's tag; the catalogue's default when the tag names none."""
    pinned: bool
    given: Given = field(default_factory=Given)

    @property
    def name(self) -> str:
        return self.node["name"].text()

    @property
    def image(self) -> str:
        return self.node["image"].text()

    @property
    def plain_flags(self) -> bool:
        """The options are `vllm serve`'s own and no others."""
        return self.command.known_flags and self.command.entry in SERVES

    @property
    def model(self) -> str | None:
        """What vLLM is told to serve: a hub id or a path; None when unknown (a variable, a config file)."""
        c = self.command
        value = c.positional[0][0] if c.positional else c.value("--model")
        if value and (named := _VARIABLE.fullmatch(value)):
            value = self.env_value(named[1]) or value
        return None if value is None or "$" in value or "{" in value else value

    @property
    def model_node(self) -> YamlNode:
        c = self.command
        if c.positional:
            return c.positional[0][1]
        found = c.option("--model")
        return found.value_node if found else c.node

    @property
    def tensor_parallel(self) -> int:
        written = self.command.integer("--tensor-parallel-size")
        return written or self.given.tensor_parallel or 1

    @property
    def accelerators(self) -> tuple[str, int, YamlNode]:
        """(vendor, how many, where that stands); ("", 0, the limits) when none is asked for."""
        if self.given.gpus:
            return self.given.vendor or "nvidia", self.given.gpus, self.given.gpus_node or self.node
        limits = self.node.at("resources", "limits")
        for key, node in [*limits.items(), *self.node.at("resources", "requests").items()]:
            for vendor, pattern in _GPU_KEYS:
                if pattern.fullmatch(key):
                    return vendor, int(node.number(0) or 0), node
        return "", 0, limits

    @property
    def gpus(self) -> tuple[int, YamlNode]:
        """Devices of any vendor that the container is limited to, and where that stands."""
        vendor, count, node = self.accelerators
        return (0, node) if vendor == "other" else (count, node)

    @property
    def vendor(self) -> str:
        """`nvidia`, `amd`, `tpu`, `intel`, `ascend`, `neuron`, `cpu`, `other`: by the resource, else by the image."""
        asked = self.accelerators[0]
        return asked or chips(self.image) or "nvidia"

    @property
    def asks_for_a_device(self) -> bool:
        """Any extended resource that may be an accelerator, or a claim."""
        resources = self.node["resources"]
        keys = [k for part in ("limits", "requests") for k, _ in resources[part].items()]
        return bool(
            self.given.gpus or resources["claims"] or any("/" in k and not _NO_DEVICE.search(k) for k in keys)
        )

    def env(self, name: str) -> YamlNode:
        """The `env` item of that name, or a missing node."""
        items: tuple[YamlNode, ...] = (*self.given.env, *self.node["env"], *self.given.from_maps)
        for item in items:
            if item["name"].text() == name:
                return item
        return self.node["env"]["..."]

    def env_value(self, name: str) -> str | None:
        if self.node["env"].entries is not None:
            found = self.node["env"][name]
            return found.text() if found else None
        item = self.env(name)
        return item["value"].text() if item and item["value"] else None


@dataclass(eq=False)
class Workload:
    """A pod template that runs vLLM, and the object around it."""

    obj: Obj
    pod: YamlNode
    """The PodSpec."""
    labels: dict[str, str]
    engines: list[Container]
    partial: bool = False
    """A snippet: what is absent here may stand elsewhere, so only what is present is judged."""
    nodes: int = 1
    """Pods that serve one model together."""
    total_gpus: int | None = None
    """GPUs of the whole group; None: nodes x the container's own, or unknown."""

    @property
    def engine(self) -> Container:
        return self.engines[0]

    @property
    def serves(self) -> bool:
        """A server that clients use, not a Job that runs once."""
        return self.obj.kind not in RUN_ONCE and self.engine.command.entry != "run-batch"

    @property
    def multi_node(self) -> bool:
        return self.nodes > 1 or self.obj.kind == "LeaderWorkerSet" or "Ray" in self.obj.kind

    @property
    def replicas(self) -> YamlNode:
        if self.obj.kind == "InferenceService":
            return self.obj.node.at("spec", "predictor", "minReplicas")
        return self.obj.spec["replicas"]

    @property
    def simulated(self) -> bool:
        """No GPU asked for and none of vLLM's GPU images: a CPU engine."""
        return self.engine.gpus[0] == 0 and chips(self.engine.image) == "cpu"

    def volume(self, name: str) -> YamlNode:
        for volume in self.pod["volumes"]:
            if volume["name"].text() == name:
                return volume
        return self.pod["volumes"]["..."]

    def mounts(self, container: YamlNode) -> Iterator[tuple[YamlNode, YamlNode]]:
        """(mount, its volume) of a container."""
        for mount in container["volumeMounts"]:
            yield mount, self.volume(mount["name"].text())
