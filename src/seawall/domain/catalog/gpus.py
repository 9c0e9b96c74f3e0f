"""GPUs: what torch sees of their memory, their speed, and every name that people and labels give them.

Memory is what `torch.cuda.mem_get_info` reports as total, in GiB, not the sticker: an H100 of 80 GB has
79.19. Dense TFLOPS and GB/s from vendors' data sheets. Dated 2026-08; sources: start-up logs of vLLM,
karpenter's instance types, aiconfigurator's system files, data sheets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

AS_OF = "2026-08-01"


@dataclass(frozen=True)
class Gpu:
    """One kind of accelerator."""

    name: str
    memory_gib: float
    """Total as torch sees it."""
    bandwidth_gbs: float
    tflops: float
    """Dense bf16 (fp16 where there is no bf16)."""
    tflops_8bit: float
    """Dense fp8 or int8; equal to `tflops` where there is none."""
    link_gbs: float
    """GPU to GPU, both directions: NVLink, or PCIe."""
    capability: float
    """CUDA compute capability; 0 for AMD."""
    aliases: tuple[str, ...] = ()
    """Other spellings; each is matched as a set of words."""
    labels: tuple[str, ...] = ()
    """nvidia.com/gpu.product values of GPU feature discovery."""
    per_node: int = 8
    """Most GPUs that one node offers."""
    tflops_4bit: float = 0.0
    auto: bool = False
    """A candidate when a spec says `gpu: auto`."""
    assumed: str = ""
    """Why these numbers are a guess; empty for a GPU of the catalogue."""
    unified: bool = False
    """Shares the host's memory: how much of it CUDA may have depends on what else runs there."""

    @property
    def bf16(self) -> bool:
        return self.capability >= 8 or self.capability == 0


def _g(
    name: str,
    gib: float,
    gbs: float,
    tf: float,
    tf8: float,
    link: float,
    cc: float,
    aliases: str,
    labels: str,
    per_node: int = 8,
    tf4: float = 0.0,
    auto: bool = False,
    unified: bool = False,
) -> Gpu:
    split = tuple(a.strip() for a in aliases.split("|") if a.strip())
    products = tuple(x for x in labels.split() if x)
    return Gpu(name, gib, gbs, tf, tf8, link, cc, split, products, per_node, tf4, auto, unified=unified)


GPUS: tuple[Gpu, ...] = (
    _g("T4", 14.74, 320, 65, 65, 32, 7.5, "t4 | tesla t4", "Tesla-T4", 4, auto=True),
    _g("V100-16GB", 15.77, 900, 125, 125, 300, 7.0, "v100 16", "Tesla-V100-SXM2-16GB Tesla-V100-PCIE-16GB"),
    _g("V100-32GB", 31.74, 900, 125, 125, 300, 7.0, "v100 32 | v100",
       "Tesla-V100-SXM2-32GB Tesla-V100-PCIE-32GB"),
    _g("A10", 22.06, 600, 125, 125, 64, 8.6, "a10", "NVIDIA-A10", 4),
    _g("A10G", 22.3, 600, 70, 70, 64, 8.6, "a10g", "NVIDIA-A10G", 8, auto=True),
    _g("A16", 14.6, 200, 18, 18, 64, 8.6, "a16", "NVIDIA-A16"),
    _g("A30", 23.5, 933, 165, 165, 200, 8.0, "a30", "NVIDIA-A30"),
    _g("A40", 44.4, 696, 150, 150, 112, 8.6, "a40", "NVIDIA-A40"),
    _g("A100-40GB", 39.5, 1555, 312, 312, 600, 8.0, "a100 40",
       "NVIDIA-A100-SXM4-40GB NVIDIA-A100-PCIE-40GB", 16, auto=True),
    _g("A100-80GB", 79.25, 2039, 312, 312, 600, 8.0, "a100 80 | a100",
       "NVIDIA-A100-SXM4-80GB NVIDIA-A100-80GB-PCIe", auto=True),
    _g("L4", 22.05, 300, 121, 242, 64, 8.9, "l4", "NVIDIA-L4", 8, auto=True),
    _g("L40", 44.3, 864, 181, 362, 64, 8.9, "l40", "NVIDIA-L40"),
    _g("L40S", 44.31, 864, 362, 733, 64, 8.9, "l40s", "NVIDIA-L40S", 8, auto=True),
    _g("RTX-A4000", 15.7, 448, 76, 76, 64, 8.6, "a4000", "NVIDIA-RTX-A4000"),
    _g("RTX-A5000", 23.5, 768, 111, 111, 112, 8.6, "a5000", "NVIDIA-RTX-A5000"),
    _g("RTX-A6000", 47.4, 768, 155, 155, 112, 8.6, "a6000", "NVIDIA-RTX-A6000"),
    _g("RTX-4000-Ada", 19.6, 360, 107, 214, 64, 8.9, "4000 ada",
       "NVIDIA-RTX-4000-Ada-Generation NVIDIA-RTX-4000-SFF-Ada-Generation"),
    _g("RTX-6000-Ada", 47.4, 960, 364, 728, 64, 8.9, "6000 ada", "NVIDIA-RTX-6000-Ada-Generation"),
    _g("RTX-PRO-6000", 94.97, 1792, 468, 936, 128, 12.0, "pro 6000 | 6000 blackwell",
       "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition "
       "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition", 8, 1871, auto=True),
    _g("RTX-3060", 11.76, 360, 51, 51, 32, 8.6, "3060", "NVIDIA-GeForce-RTX-3060"),
    _g("RTX-3070", 7.66, 448, 81, 81, 32, 8.6, "3070", "NVIDIA-GeForce-RTX-3070"),
    _g("RTX-3080", 9.66, 760, 119, 119, 32, 8.6, "3080", "NVIDIA-GeForce-RTX-3080"),
    _g("RTX-3090", 23.58, 936, 142, 142, 112, 8.6, "3090",
       "NVIDIA-GeForce-RTX-3090 NVIDIA-GeForce-RTX-3090-Ti"),
    _g("RTX-4060", 7.63, 272, 60, 121, 32, 8.9, "4060", "NVIDIA-GeForce-RTX-4060"),
    _g("RTX-4060-Ti-16GB", 15.57, 288, 88, 177, 32, 8.9, "4060 ti 16", "NVIDIA-GeForce-RTX-4060-Ti"),
    _g("RTX-4070", 11.6, 504, 116, 233, 32, 8.9, "4070", "NVIDIA-GeForce-RTX-4070"),
    _g("RTX-4080", 15.57, 717, 195, 390, 32, 8.9, "4080", "NVIDIA-GeForce-RTX-4080"),
    _g("RTX-4090", 23.52, 1008, 165, 330, 64, 8.9, "4090",
       "NVIDIA-GeForce-RTX-4090 NVIDIA-GeForce-RTX-4090-D"),
    _g("RTX-5060-Ti-16GB", 15.48, 448, 97, 194, 64, 12.0, "5060 ti", "NVIDIA-GeForce-RTX-5060-Ti"),
    _g("RTX-5070", 11.5, 672, 123, 247, 64, 12.0, "5070", "NVIDIA-GeForce-RTX-5070"),
    _g("RTX-5070-Ti", 15.47, 896, 176, 352, 64, 12.0, "5070 ti", "NVIDIA-GeForce-RTX-5070-Ti"),
    _g("RTX-5080", 15.47, 960, 225, 450, 64, 12.0, "5080", "NVIDIA-GeForce-RTX-5080"),
    _g("RTX-5090", 31.37, 1792, 210, 419, 128, 12.0, "5090",
       "NVIDIA-GeForce-RTX-5090 NVIDIA-GeForce-RTX-5090-D", 8, 838),
    _g("GB10", 121.69, 273, 125, 250, 64, 12.1, "gb10 | dgx spark | spark", "NVIDIA-GB10", 1, 500, unified=True),
    _g("H20", 95.1, 4000, 148, 296, 900, 9.0, "h20 96 | h20", "NVIDIA-H20"),
    _g("H20-3e", 139.72, 4800, 148, 296, 900, 9.0, "h20 3e | h20 141", "NVIDIA-H20-3e"),
    _g("H100-80GB", 79.19, 3350, 989, 1979, 900, 9.0, "h100 | h100 sxm | h100 80 | h100 80 sxm | h800",
       "NVIDIA-H100-80GB-HBM3 NVIDIA-H800", auto=True),
    _g("H100-PCIe", 79.11, 2000, 756, 1513, 128, 9.0, "h100 pcie", "NVIDIA-H100-PCIe"),
    _g("H100-NVL", 93.11, 3938, 835, 1671, 600, 9.0, "h100 nvl | h100 94", "NVIDIA-H100-NVL"),
    _g("GH200-96GB", 94.5, 4000, 989, 1979, 900, 9.0, "gh200 | gh200 96", "NVIDIA-GH200-480GB", 1),
    _g("GH200-144GB", 142.5, 4900, 989, 1979, 900, 9.0, "gh200 144", "NVIDIA-GH200-144G-HBM3e", 1),
    _g("H200", 139.81, 4800, 989, 1979, 900, 9.0, "h200 | h200 141 | h200 sxm", "NVIDIA-H200", auto=True),
    _g("H200-NVL", 139.81, 4800, 835, 1671, 900, 9.0, "h200 nvl", "NVIDIA-H200-NVL"),
    _g("B200", 178.35, 7700, 2250, 4500, 1800, 10.0, "b200", "NVIDIA-B200", 8, 9000, auto=True),
    _g("B300", 267.7, 7750, 2250, 4500, 1800, 10.3, "b300",
       "NVIDIA-B300-SXM6-AC NVIDIA-B300", 8, 14000, auto=True),
    _g("GB200", 184.0, 8000, 2500, 5000, 1800, 10.0, "gb200", "NVIDIA-GB200", 4, 10000),
    _g("GB300", 276.0, 8000, 2500, 5000, 1800, 10.3, "gb300", "NVIDIA-GB300", 4, 15000),
    _g("MI210", 63.98, 1638, 181, 181, 300, 0, "mi210", "AMD-Instinct-MI210"),
    _g("MI250X", 63.98, 1638, 191, 191, 400, 0, "mi250 | mi250x", "AMD-Instinct-MI250X"),
    _g("MI300X", 191.98, 5300, 1307, 2615, 896, 0, "mi300 | mi300x",
       "AMD-Instinct-MI300X-OAM AMD_Instinct_MI300X_OAM"),
    _g("MI325X", 255.98, 6000, 1307, 2615, 896, 0, "mi325 | mi325x", "AMD-Instinct-MI325X-OAM"),
    _g("MI355X", 287.98, 8000, 2516, 5033, 1075, 0, "mi350x | mi355 | mi355x",
       "AMD-Instinct-MI355X-OAM", 8, 10066),
)  # fmt: skip

_NOISE = {
    "nvidia",
    "amd",
    "tesla",
    "geforce",
    "rtx",
    "instinct",
    "gpu",
    "gb",
    "gib",
    "class",
    "the",
    "and",
    "unified",
}
_NOISE |= {
    "memory",
    "oam",
    "hbm3",
    "hbm3e",
    "hbm2e",
    "hbm",
    "sxm4",
    "sxm5",
    "sxm2",
    "laptop",
    "edition",
    "generation",
}
_NOISE |= {"server", "workstation", "node", "unknown", "d", "shared", "mobile", "each", "x"}


def known_names() -> list[str]:
    return [g.name for g in GPUS]


def find_gpu(text: str, near: bool = True) -> Gpu | None:
    """The GPU that a person, a log or a node label means, or None.

    Takes catalogue names, `nvidia.com/gpu.product` labels (also `-SHARED` and `-MIG-1g.5gb`), and free
    spellings such as `RTX 4090`, `H100-80GB-SXM` or `A100-40GB MIG 1g.5gb`. For a mixture (`A + B`) the
    smaller one counts, as vLLM gives every rank the same. With `near`, a name that is not in the
    catalogue but states its memory (`24 GB RTX (23.7 GiB)`) gives an assumed GPU of that size.
    """
    text = text.strip()[:200]
    if not text:
        return None
    for gpu in GPUS:
        if text.lower() in {gpu.name.lower(), *(x.lower() for x in gpu.labels)}:
            return gpu
    if "+" in text:
        parts = [g for g in (find_gpu(p, near) for p in text.split("+")) if g]
        least = min(parts, key=lambda g: g.memory_gib, default=None)
        if least is None or all(g.name == least.name for g in parts):
            return least
        return replace(
            least, assumed=f"{text!r} is a mixture: planned as if all were {least.name}", auto=False
        )
    slice_ = re.search(r"(\d)g\.(\d+)gb", text, re.I)
    if slice_:
        whole = find_gpu(re.sub(r"(?i)[-_ ]*(mig)?[-_ ]*\d+g\.\d+gb.*", "", text), near)
        return _mig(whole, int(slice_[1]), int(slice_[2])) if whole else None
    plain = re.sub(r"\(.*", "", text)
    found = _by_words(plain)
    stated = re.search(r"(\d+(?:\.\d+)?)\s*GiB", text)
    sticker = re.search(r"(\d+)\s*-?GB", plain, re.I)
    if found is None:
        if not near or not (stated or sticker):
            return None
        gib = _stated_gib(stated, sticker)
        like = min(GPUS, key=lambda g: abs(g.memory_gib - gib))
        note = f"{text!r} is not in the catalogue: {gib:.1f} GiB taken, speed like {like.name}"
        return replace(
            like, name=plain.strip() or text, memory_gib=gib, labels=(), aliases=(), assumed=note, auto=False
        )
    if sticker and abs(float(sticker[1]) - found.memory_gib) > 0.25 * found.memory_gib:
        gib = float(sticker[1]) * 0.955
        note = f"{found.name} with {sticker[1]} GB: {gib:.1f} GiB taken"
        return replace(
            found, name=f"{found.name}-{sticker[1]}GB", memory_gib=gib, labels=(), assumed=note, auto=False
        )
    return found


def ambiguous(text: str) -> str:
    """What must be asked when a name fits GPUs of several sizes: `A100` -> `40 or 80 GB; write A100-40GB or A100-80GB`.
    Empty for a name that says enough. (A log or a label that says no more is read by `find_gpu`, which guesses.)"""
    name = text.strip().lower()
    sizes = {m[1]: g.name for g in GPUS if (m := re.fullmatch(re.escape(name) + r"-(\d+)gb", g.name.lower()))}
    if len(sizes) < 2:
        return ""
    return f"{' or '.join(sizes)} GB; write {' or '.join(sizes.values())}"


def _stated_gib(exact: re.Match[str] | None, sticker: re.Match[str] | None) -> float:
    """GiB from `23.7 GiB`, or from the sticker's GB less what the driver keeps."""
    if exact:
        return float(exact[1])
    return float(sticker[1]) * 0.975 if sticker else 0.0


def _words(text: str) -> set[str]:
    text = re.sub(r"(?i)(\d+)\s*g(i?)b\b", r"\1", text)
    text = re.sub(r"(?i)\b(\d{4})(ti|d)\b", r"\1 \2", text)
    return {w for w in re.split(r"[^a-z0-9]+", text.lower()) if w and w not in _NOISE}


def _by_words(text: str) -> Gpu | None:
    """The alias with the most words that are all in `text`."""
    words = _words(text)
    best: tuple[int, Gpu] | None = None
    for gpu in GPUS:
        for alias in gpu.aliases:
            need = _words(alias)
            if need and need <= words and (best is None or len(need) > best[0]):
                best = (len(need), gpu)
    return best[1] if best else None


def _mig(whole: Gpu, slices: int, sticker_gb: int) -> Gpu:
    """A MIG slice: its share of compute and bandwidth, its own memory (1g.5gb has 4.75 GiB)."""
    share = slices / 7
    gib = min(sticker_gb * (0.95 if sticker_gb <= 5 else 0.975), whole.memory_gib)
    return replace(
        whole,
        name=f"{whole.name}-MIG-{slices}g.{sticker_gb}gb",
        memory_gib=gib,
        bandwidth_gbs=whole.bandwidth_gbs * min(1.0, gib / whole.memory_gib),
        tflops=whole.tflops * share,
        tflops_8bit=whole.tflops_8bit * share,
        labels=tuple(f"{x}-MIG-{slices}g.{sticker_gb}gb" for x in whole.labels),
        aliases=(),
        auto=False,
        per_node=7,
    )
