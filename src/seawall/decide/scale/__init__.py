"""How many replicas, and why: HPA and KEDA to the letter (`behavior`, `calc`, `hpa`, `keda`), one fleet's decision on
top (`policy`, `fleet`), with its `schedule` and its `budget`. Pure: `now` is an argument, state is JSON-able data."""

from seawall.decide.scale.fleet import ScaleState, decide
from seawall.decide.scale.policy import (
    DemandSeen,
    ScaleMeasure,
    ScalePolicy,
    ScaleTrigger,
    policy_of,
    target_of,
)

__all__ = [
    "DemandSeen",
    "ScaleMeasure",
    "ScalePolicy",
    "ScaleState",
    "ScaleTrigger",
    "decide",
    "policy_of",
    "target_of",
]
