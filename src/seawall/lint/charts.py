"""Values of charts that start vLLM from settings of their own: production-stack's `servingEngineSpec`. No rule here.

Most people write and review the values, not what `helm template` makes of them. What the chart hands to `vllm serve`
is read; probes, hooks and security come from its templates and are not judged (partial).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from seawall.engines.vllm.versions import Version
from seawall.lint.command import read_args, read_keys
from seawall.lint.image import image_version, newest_inside
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Given, Obj, Workload

VALUES = "Values"
"""The kind under which a file of such values is known; it is no Kubernetes object."""
_FLAGS = {
    "maxModelLen": "max-model-len", "dtype": "dtype", "maxNumSeqs": "max-num-seqs",
    "gpuMemoryUtilization": "gpu-memory-utilization", "maxLoras": "max-loras",
    "tensorParallelSize": "tensor-parallel-size", "pipelineParallelSize": "pipeline-parallel-size",
}  # fmt: skip
"""Fields of `vllmConfig` and the flags that the chart writes for them."""
OF_CONFIG = {*_FLAGS, "enableChunkedPrefill", "enablePrefixCaching", "extraArgs", "v0", "v1"}
BESIDE = (
    "routerSpec",
    "cacheserverSpec",
    "sharedStorage",
    "loraController",
    "loraAdapters",
    "servingEngineSpec",
)
"""Blocks of the file's top."""


def is_values(node: YamlNode) -> bool:
    """Whether a document without a kind is production-stack's values."""
    return node["servingEngineSpec"].entries is not None


def as_object(node: YamlNode) -> Obj:
    return Obj(node, VALUES, "production-stack/values", "servingEngineSpec", "default")


def models(obj: Obj) -> Iterator[YamlNode]:
    """The entries of `modelSpec`."""
    if obj.kind == VALUES:
        yield from obj.node.at("servingEngineSpec", "modelSpec")


def read(obj: Obj, default: Version) -> Iterator[Workload]:
    """One engine for each entry of `modelSpec`."""
    for model in models(obj):
        if model["repository"]:
            yield _engine(obj, model, default)


def _engine(obj: Obj, model: YamlNode, default: Version) -> Workload:
    config = model["vllmConfig"]
    url = model["modelURL"]
    command = read_args(config["extraArgs"] or config or model, (url.text(), url) if url else None)
    fields = [(flag, config[field]) for field, flag in _FLAGS.items() if config[field]]
    tools = [("enable-auto-tool-choice", model["enableTool"])] if model["enableTool"].value is True else []
    parser = [("tool-call-parser", model["toolCallParser"])] if model["toolCallParser"] else []
    more = [replace(o, value=None) for o in read_keys(tools, model, None).options]
    command.options[:0] = [
        *read_keys(fields, config, None).options,
        *more,
        *read_keys(parser, model, None).options,
    ]
    image = f"{model['repository'].text()}:{model['tag'].text()}"
    node = _with(model, image=_scalar(model["tag"] or model["repository"], image))
    version = image_version(image)
    kind = model["requestGPUType"].text("nvidia.com/gpu")
    asked = model["requestGPU"] or model.at("resources", "limits", kind)
    vendor = "amd" if kind.startswith("amd.") else "nvidia" if kind == "nvidia.com/gpu" else ""
    nodes = int(config["pipelineParallelSize"].number(1) or 1) if model["raySpec"] else 1
    given = Given(int(asked.number(0) or 0), asked, vendor) if vendor and asked else Given()
    engine = Container(node, command, version or newest_inside(image) or default, version is not None, given)
    pod = _with(
        model,
        containers=_list(model, [node]),
        affinity=_under(
            model["nodeSelectorTerms"],
            ("nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"),
        ),
    )
    return Workload(obj, pod, {}, [engine], partial=True, nodes=nodes)


def _scalar(at: YamlNode, text: str) -> YamlNode:
    return YamlNode(at.path, at.span, at.file, value=text)


def _list(at: YamlNode, elements: list[YamlNode]) -> YamlNode:
    return YamlNode(at.path, at.span, at.file, elements=elements)


def _with(node: YamlNode, **more: YamlNode) -> YamlNode:
    """A mapping with more keys, which stand nowhere in the text and are edited by nobody."""
    entries = {**(node.entries or {}), **{k: v for k, v in more.items() if v}}
    spans = {**node.key_spans, **dict.fromkeys(more, node.span)}
    return YamlNode(node.path, node.span, node.file, entries=entries, key_spans=spans, flow=True)


def _under(node: YamlNode, keys: tuple[str, ...]) -> YamlNode:
    for key in reversed(keys) if node else ():
        node = YamlNode(
            node.path, node.span, node.file, entries={key: node}, key_spans={key: node.span}, flow=True
        )
    return node
