"""How fast weights and images arrive, by storage class. Dated data (2026-08), bytes per second for one reader.

Field numbers where there are any (EFS: 0.35 GiB/s into 16 workers), else the provider's own for default
sizes, on the slow side: a start-up budget that is too long costs nothing, one too short kills Pods.
"""

from __future__ import annotations

AS_OF = "2026-08-01"
MIB = 2**20

_CLASSES: tuple[tuple[str, int], ...] = (
    # part of a class's or provisioner's name -> MiB/s; the first match counts
    ("fsx", 1000), ("lustre", 1000), ("efs", 350), ("gp3", 125), ("gp2", 125), ("io2", 500), ("io1", 500),
    ("hyperdisk-ml", 1200), ("hyperdisk", 400), ("premium-rwo", 240), ("standard-rwo", 120), ("pd-ssd", 240),
    ("pd-balanced", 120), ("filestore", 300), ("enterprise-rwx", 300), ("premium-rwx", 300), ("standard-rwx", 100),
    ("gcs", 800), ("parallelstore", 2000), ("azurefile-premium", 300), ("azurefile-csi-premium", 300),
    ("azurefile", 60), ("managed-csi-premium", 200), ("managed-premium", 200), ("managed", 60), ("anf", 500),
    ("weka", 2000), ("vast", 2000), ("ceph", 400), ("rook", 400), ("longhorn", 150), ("nfs", 110),
    ("local", 2000), ("nvme", 2000), ("standard", 24),
)  # fmt: skip
_KINDS = {"pvc": 200, "oci": 250, "stream": 800, "node-local": 2000, "host-path": 2000}
_IMAGE = {"local": 2000, "on-prem": 110}
IMAGE_BYTES = 10 * 10**9
"""vllm/vllm-openai, compressed."""


def weights_bandwidth(kind: str, storage_class: str | None) -> tuple[int, str]:
    """(bytes per second of one reader, where the number is from)."""
    if storage_class:
        name = storage_class.lower()
        for part, rate in _CLASSES:
            if part in name:
                return rate * MIB, f"storage class {storage_class}"
        return _KINDS["pvc"] * MIB, f"unknown storage class {storage_class}"
    return _KINDS.get(kind, 200) * MIB, f"{kind} without a storage class"


def image_bandwidth(cloud: str) -> int:
    """Bytes per second of pulling and unpacking an image."""
    return _IMAGE.get(cloud, 125) * MIB
