"""The KV cache: how vLLM groups layers, how many blocks a pool gives, what one request takes. Pure.

After v1/core/kv_cache_utils.py and v1/kv_cache_interface.py (0.11 to 0.32). Layers with one kind of cache
form groups of equal size that share a pool of equal pages; a request takes blocks from every group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from seawall.decide.plan.beside import drafting_layers, last_full
from seawall.decide.plan.setup import EngineSetup
from seawall.decide.plan.weights import DTYPE_BYTES, stage_layers
from seawall.domain.model import Layer, ModelConfig

FP8_DS_MLA_BYTES = 656
"""Per token and layer: 512 fp8 latents, 16 bytes of scales, 64 bf16 rope values."""
INDEXER_EXTRA_BYTES = 4
"""Bytes of the scale beside one fp8 index key."""
COMPRESSED_BLOCK = 256
"""Tokens per block of DeepSeek V4's compressed cache (FlashMLA)."""
COMPRESSED_ROW = 584
"""Bytes of one entry of that cache: 448 fp8 values, 64 bf16 rope values, 8 scales."""
ROW_ALIGNMENT = 576


@dataclass(frozen=True)
class LayerGroup:
    """Layers that share one block table."""

    kind: str
    layers: int
    window: int
    block: int
    """Tokens per block; for recurrent layers a block holds one state."""
    page_bytes: int = 0
    """Bytes of one block that its own layers fill; 0: all of them."""
    checkpoints: int = 0
    """Blocks that a request takes for states inside its prompt, where prefixes are cached."""


@dataclass(frozen=True)
class Layout:
    """The layout of one rank's cache: its groups of layers and their blocks."""

    groups: tuple[LayerGroup, ...]
    block: int
    """Tokens per block of full attention."""
    block_bytes: int
    """Bytes that one block id takes on this rank, over all layers that share the id."""
    bytes_per_token: int
    """What one more token of a long request costs on this rank: growing layers only."""
    draft_blocks: int = 0
    padded_bytes: int = 0
    """Bytes per block that vLLM's check for one long request counts, where they are more than `block_bytes`."""

    def blocks(self, cache_bytes: float) -> int:
        return max(0, int(cache_bytes // self.block_bytes)) if self.block_bytes else 0

    def request_blocks(self, length: int, setup: EngineSetup) -> int:
        """Blocks that one request of `length` tokens takes from the pool."""
        return sum(_group_blocks(g, length, setup) for g in self.groups)

    def tokens(self, blocks: int, length: int, setup: EngineSetup) -> int:
        """Tokens as vLLM prints them: before 0.20.2 one group's share, from then concurrency x length."""
        if not self.groups:
            return 0
        if setup.version < (0, 20, 2):
            smallest = min(g.block for g in self.groups)
            return blocks // len(self.groups) * smallest * setup.dcp
        return int(self.concurrency(blocks, length, setup) * length)

    def concurrency(self, blocks: int, length: int, setup: EngineSetup) -> float:
        """Requests of `length` tokens as vLLM prints them: by filled bytes, not by blocks taken, where they differ."""
        need = self.request_blocks(length, setup)
        if self.groups and self.groups[0].page_bytes:
            filled = sum(_group_blocks(g, length, setup) * g.page_bytes for g in self.groups)
            need = math.ceil(filled / self.groups[0].page_bytes)
        return blocks / need if need else float("inf")

    def room(self, blocks: int, length: int, setup: EngineSetup) -> float:
        """Requests of `length` tokens that the pool does hold at once."""
        return blocks / max(1, self.request_blocks(length, setup))

    def checked(self) -> Layout:
        """The layout as vLLM's check for one long request sees it."""
        return replace(self, block_bytes=self.padded_bytes) if self.padded_bytes else self

    def longest(self, blocks: int, ceiling: int, setup: EngineSetup) -> int:
        """The largest length whose request fits the pool, rounded down to what vLLM would say."""
        if self.request_blocks(1, setup) > blocks:
            return 0
        low, high = 1, max(1, ceiling)
        while low < high:
            mid = (low + high + 1) // 2
            if self.request_blocks(mid, setup) <= blocks:
                low = mid
            else:
                high = mid - 1
        return low


def _group_blocks(group: LayerGroup, length: int, setup: EngineSetup) -> int:
    if group.kind == "recurrent":
        # With prefix caching vLLM keeps the state at the last block boundary too ("align" mode).
        aligned = setup.prefix_caching and setup.version >= (0, 11, 1)
        return (2 + group.checkpoints if aligned else 1) + setup.draft_tokens
    if group.kind == "sliding":  # a window may begin inside a block: one more
        return math.ceil(min(group.window - 1 + setup.in_flight_tokens, length) / group.block) + 1
    if group.kind == "chunked":
        return math.ceil(min(group.window + setup.in_flight_tokens, length) / group.block)
    return math.ceil(math.ceil(length / setup.dcp) / group.block)


CHECKPOINT_CACHE = (0, 12, 0)
"""From here `--kv-cache-dtype auto` takes the cache that a quantized checkpoint was calibrated for."""


def cache_dtype(model: ModelConfig, setup: EngineSetup) -> str:
    """`fp8`, `nvfp4` or the model's own: what the flag says, or under `auto` what the checkpoint says."""
    if setup.kv_dtype != "auto":
        return setup.kv_dtype
    return model.cache_dtype if setup.version >= CHECKPOINT_CACHE else "auto"


def element_bytes(model: ModelConfig, setup: EngineSetup) -> float:
    """Bytes of one cached element, scales included."""
    dtype = cache_dtype(model, setup)
    if dtype.startswith("fp8"):
        return 1
    return 0.5 + 1 / 16 if dtype == "nvfp4" else DTYPE_BYTES[model.dtype]


def layer_bytes(model: ModelConfig, layer: Layer, setup: EngineSetup) -> int:
    """Bytes per token that one attention layer caches on one rank, its index aside."""
    each = element_bytes(model, setup)
    if model.latent is not None and not model.latent.expanded:
        width = model.latent.kv_lora_rank + model.latent.rope_dim
        if setup.version < (0, 8, 0):  # padded to 128 elements: 640 instead of 576
            width = -(-width // 128) * 128
        if model.indexer is not None and each == 1:
            return FP8_DS_MLA_BYTES
        return int(width * each)
    heads = max(1, layer.kv_heads // setup.tp)
    sides = layer.head_dim + layer.head_dim_v
    return int(heads * sides * each)


def index_bytes(model: ModelConfig, layer: Layer, setup: EngineSetup) -> int:
    """Bytes per token of one layer's index keys, whole on every rank."""
    if model.indexer is None or not layer.indexed:
        return 0
    if model.latent is not None:
        return model.indexer.head_dim + INDEXER_EXTRA_BYTES
    return int(model.indexer.head_dim * element_bytes(model, setup))


def layout(model: ModelConfig, setup: EngineSetup, stage: int | None = None) -> Layout:
    """The cache layout of one pipeline stage (None: the whole model, as on one rank)."""
    layers = _cached_layers(model, setup, stage)
    if model.compressed is not None:
        return _compressed_layout(model, layers, setup)
    caching = [layer for layer in layers if layer.kind in ("full", "sliding", "chunked")]
    recurrent = [layer for layer in layers if layer.kind == "recurrent" or layer.state]
    block = _block_size(model, setup)
    kinds: dict[tuple[str, int, int], int] = {}
    drafting = drafting_layers(model, setup) if stage is None or stage == setup.pp - 1 else []
    for owner, layer in [*((model, layer) for layer in caching), *drafting]:
        key = (layer.kind, layer.window, layer_bytes(owner, layer, setup))
        kinds[key] = kinds.get(key, 0) + 1
    index = sum(index_bytes(model, layer, setup) for layer in caching)
    state = state_bytes(model, setup) if recurrent else 0
    growing = sum(n * b for (kind, _, b), n in kinds.items() if kind == "full") + index
    if not growing:
        growing = sum(n * b for (_, _, b), n in kinds.items())
    if not recurrent and len({(k, w) for k, w, _ in kinds}) <= 1:
        # One kind of layer: a single group, whose block holds every layer's page.
        per_token = sum(n * b for (_, _, b), n in kinds.items()) + index
        (kind, window) = next(iter({(k, w) for k, w, _ in kinds}), ("full", 0))
        count = len(caching) + len(drafting)
        return Layout((LayerGroup(kind, count, window, block),), block, per_token * block, growing)
    return _hybrid(kinds, len(recurrent), state, block, growing, setup, model)


def _cached_layers(model: ModelConfig, setup: EngineSetup, stage: int | None) -> list[Layer]:
    layers = list(model.layers)
    if stage is not None and setup.pp > 1:
        sizes = stage_layers(len(layers), setup.pp)
        begin = sum(sizes[:stage])
        layers = layers[begin : begin + sizes[stage]]
        if setup.drafts_itself and stage == setup.pp - 1:
            layers += [model.layers[-1]] * max(1, model.draft_layers)
    elif setup.drafts_itself:
        layers += [last_full(model)] * max(1, model.draft_layers)
    return layers


PACKED = (0, 23, 0)
"""From here blocks of DeepSeek V4 hold fewer empty slots, though the check for one long request still counts them."""
OVERLAID = (0, 27, 0)
"""From here a block is as large as the largest group's pages, and counts whole (vLLM pull request 48993)."""


def _compressed_layout(model: ModelConfig, layers: list[Layer], setup: EngineSetup) -> Layout:
    """DeepSeek V4 (vLLM: models/deepseek_v4, v1/core/kv_cache_utils.py).

    One group of full length holds the compressed entries and their index; windows of 128 tokens, and the states
    of compressors (fp32, 4 or 8 tokens per block), are groups beside it. All share slots of three page sizes.
    """
    index = model.indexer.head_dim if model.indexer is not None else 0
    by_ratio: dict[int, int] = {}
    for layer in layers:
        if layer.ratio:
            by_ratio[layer.ratio] = by_ratio.get(layer.ratio, 0) + 1
    pages = {_aligned(COMPRESSED_BLOCK // ratio * COMPRESSED_ROW): n for ratio, n in by_ratio.items()}
    large = max(pages, default=_aligned(64 * COMPRESSED_ROW))
    keys = _aligned(COMPRESSED_BLOCK // 4 * (index + INDEXER_EXTRA_BYTES)) if index and 4 in by_ratio else 0
    if keys:
        pages[keys] = by_ratio[4]
    window = max((layer.window for layer in layers), default=128)
    slots = _slots([max(by_ratio.values(), default=1), len(layers), *by_ratio.values()])
    full = sum(page * n for page, n in pages.items())
    groups = [LayerGroup("full", max(by_ratio.values()), 0, COMPRESSED_BLOCK, full)] if by_ratio else []
    groups += [LayerGroup("sliding", n, window, 64, n * large) for n in _shares(len(layers), slots)]
    for ratio, count in by_ratio.items():
        tokens, reach = (4, 8) if ratio == 4 else (8, ratio)
        each = large + (keys if ratio == 4 else 0)
        groups += [LayerGroup("sliding", n, reach, tokens, n * each) for n in _shares(count, slots)]
    widest = max(g.layers for g in groups)
    padded = sum({large, *pages}) * widest
    packed = padded - sum(page * (widest - n) for page, n in pages.items() if page != large)
    growing = sum(
        n * (COMPRESSED_ROW + (index + INDEXER_EXTRA_BYTES if ratio == 4 and index else 0)) / ratio
        for ratio, n in by_ratio.items()
    )
    per_token = math.ceil(growing) or 2 * model.layers[0].head_dim
    if setup.version >= OVERLAID:
        block = max(g.page_bytes for g in groups)
        return Layout(tuple(replace(g, page_bytes=0) for g in groups), COMPRESSED_BLOCK, block, per_token)
    block = packed if setup.version >= PACKED else padded
    return Layout(tuple(groups), COMPRESSED_BLOCK, block, per_token, padded_bytes=padded)


def _shares(count: int, most: int) -> list[int]:
    """`count` layers in as few groups of at most `most` as there can be."""
    groups = math.ceil(count / most)
    return [(count + groups - 1 - i) // groups for i in range(groups)]


def _aligned(size: int) -> int:
    return -(-size // ROW_ALIGNMENT) * ROW_ALIGNMENT


def _slots(counts: list[int]) -> int:
    """Group size, at least the first count, that needs the least padding when the other counts are rounded up to it."""
    best = range(max(1, counts[0]), max(counts) + 1)
    return min(best, key=lambda d: (sum(-n % d for n in counts), -d), default=max(1, counts[0]))


def _hybrid(
    kinds: dict[tuple[str, int, int], int],
    recurrent: int,
    state: int,
    block: int,
    growing: int,
    setup: EngineSetup,
    model: ModelConfig,
) -> Layout:
    """Several kinds of layers: equal pages, groups of equal size (the smallest count, or the largest if near)."""
    page_token = max((b for (_, _, b) in kinds), default=1)
    if recurrent and state and kinds:
        # Attention blocks grow until a page holds one recurrent state (platforms/interface.py).
        step = 64 if model.latent is not None else 16
        block = max(block, step * math.ceil(state / (step * min(b for (_, _, b) in kinds))))
    page = max(block * page_token, state)
    buckets = [(k, w, b, n) for (k, w, b), n in kinds.items()]
    counts = [n for *_, n in buckets] + ([recurrent] if recurrent else [])
    size = min(counts)
    near = 1.25 if setup.version < (0, 20, 0) else 1.5
    if max(counts) < size * near:
        size = max(counts)
    groups = []
    for kind, window, b, n in buckets:
        # A thinner layer gets longer blocks, so that all pages are equal.
        longer = block * (page_token // b) if page_token % b == 0 else block
        groups += [LayerGroup(kind, size, window, longer)] * math.ceil(n / size)
    if recurrent:
        state_group = LayerGroup("recurrent", size, 0, block, checkpoints=_checkpoints(model, setup))
        groups += [state_group] * math.ceil(recurrent / size)
    return Layout(tuple(groups), block, page * size, growing)


def _checkpoints(model: ModelConfig, setup: EngineSetup) -> int:
    """Blocks of a prompt's inner states: kernels that store one on their way need a place for it (vLLM pull requests
    52789 and 57329; Gated DeltaNet by FlashInfer, from Hopper on)."""
    scan = model.recurrent.scan if model.recurrent is not None else ""
    if scan == "mamba2":
        return int(setup.version >= (0, 32, 0))
    if scan == "gdn" and model.architecture.startswith(("qwen3_next", "qwen3_5")):
        return int(setup.version >= (0, 33, 0) and setup.gpu.capability >= 9)
    return 0


def state_bytes(model: ModelConfig, setup: EngineSetup) -> int:
    """One recurrent layer's state on one rank (heads are split over TP)."""
    r = model.recurrent
    if r is None:
        return 0
    drafts = r.conv_elements // r.taps * setup.draft_tokens if r.taps else 0
    flagged = (
        r.scan != "lightning"
    )  # whose states follow --mamba-cache-dtype (layers/mamba/mamba_utils.py in vLLM)
    each = (setup.extra.state_bytes if flagged else 0) or r.state_bytes
    return ((r.conv_elements + drafts) * DTYPE_BYTES[model.dtype] + r.state_elements * each) // setup.tp


def kept_blocks(setup: EngineSetup) -> int:
    """Blocks of the pool that vLLM keeps for itself, and since 0.29 leaves out when it checks whether a request fits
    (vllm/v1/core/kv_cache_utils.py)."""
    return 1 if setup.version >= (0, 29, 0) else 0


def _block_size(model: ModelConfig, setup: EngineSetup) -> int:
    """vLLM's default: 128 on a CPU (platforms/cpu.py), but for latent attention there and for most on GPUs 16."""
    if setup.gpu.name == "cpu" and model.latent is None:
        return 128
    if model.latent is not None and setup.version >= (0, 9, 0):
        return 64 if model.indexer is not None or setup.gpu.capability in (9.0, 10.0, 10.3) else 16
    return 16
