"""On-demand prices per GPU-hour, dated. Data only; a file of the user's own replaces any of them (`plan --prices`).

AWS us-east-1, whole node divided by its GPUs, from karpenter's generated price list of 2026-07-20. Where
AWS has no such GPU: the middle of the marketplace ranges that dstack listed in August 2026, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AS_OF = "2026-07-20"

_USD: dict[str, float] = {
    "T4": 0.53, "A10G": 1.01, "A10": 1.01, "L4": 0.80, "A100-40GB": 2.74, "A100-80GB": 3.43, "L40S": 1.86,
    "RTX-PRO-6000": 3.36, "H100-80GB": 6.88, "H100-PCIe": 2.90, "H100-NVL": 3.50, "H200": 7.91, "H200-NVL": 3.80,
    "B200": 14.24, "B300": 17.80, "MI300X": 3.50, "V100-16GB": 3.06, "V100-32GB": 3.90, "RTX-4090": 0.50,
    "RTX-3090": 0.25, "RTX-5090": 0.80, "RTX-A6000": 0.55, "L40": 1.10,
}  # fmt: skip


@dataclass(frozen=True)
class Prices:
    """USD per GPU-hour by catalogue name, and the day they are from."""

    as_of: str = AS_OF
    usd: Mapping[str, float] = field(default_factory=lambda: _USD)

    def per_gpu_hour(self, gpu: str) -> float | None:
        name = gpu.split("-MIG-")[0]
        return self.usd.get(gpu, self.usd.get(name))
