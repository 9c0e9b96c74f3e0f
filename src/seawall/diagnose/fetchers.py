"""Containers that fetch weights before an engine starts: which they are, and what keeps them small and going. Pure."""

from __future__ import annotations

import re

_NAMES = re.compile(r"storage-?initializer|download|fetch|loader|puller|hf-|model-?init|modelcar", re.I)
_WRITES = re.compile(
    r"Fetching \d+ files|Downloading (?:shards|\S+\.safetensors)|snapshot_download|hf_xet|hf_transfer|hf download"
    r"|huggingface-cli|Copying contents of|aws s3 (?:cp|sync)|gsutil|gcloud storage|rclone|s5cmd"
)

LESS_MEMORY = (
    "a higher memory limit for it (KServe: resources in the ClusterStorageContainer, or memoryLimit of "
    "storageInitializer in the ConfigMap inferenceservice-config), or a fetch that holds less at once: "
    "HF_HUB_DISABLE_XET=1, or HF_XET_NUM_CONCURRENT_RANGE_GETS=4 with HF_XET_HIGH_PERFORMANCE=0; best: seawall pull "
    "once into a volume"
)
GO_ON = (
    "what it writes now: kubectl logs POD -c NAME. A download that stands still does not end by itself: delete the Pod "
    "(it goes on from what is there, on a volume), HF_HUB_DOWNLOAD_TIMEOUT=60 and HF_HUB_DISABLE_XET=1 in its env; "
    "best: "
    "seawall pull once into a volume"
)


def fetches(name: str, log: str) -> bool:
    """Whether a container of this name, with this log, fetches weights."""
    return bool(_NAMES.search(name) or _WRITES.search(log))
