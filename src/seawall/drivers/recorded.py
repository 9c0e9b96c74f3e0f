"""Answers of Prometheus in a file: kept by `seawall advise --record`, read where no server can be asked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from seawall.errors import InputError, in_words

MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Series by name, each as (unix seconds, value), over one window."""

    series: dict[str, list[tuple[float, float]]]
    window_s: float
    step_s: float

    def write(self, path: str) -> None:
        """InputError when the file cannot be written."""
        try:
            Path(path).write_text(json.dumps(asdict(self)), encoding="utf-8")
        except OSError as e:
            raise InputError(f"{path}: {e.strerror}.", "Choose another path.") from e


def read(path: str) -> Recorded:
    """What `Recorded.write` wrote; InputError for anything else."""
    try:
        with Path(path).open("rb") as f:
            content = f.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError("too big")
        data = json.loads(content)
        window, step = float(data["window_s"]), float(data["step_s"])
        series = {k: [(float(t), float(v)) for t, v in points] for k, points in data["series"].items()}
        if not 0 < step <= window < 1e9:
            raise ValueError("window")
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}.", "Check the path.") from e
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise InputError(
            f"{path} is no recorded history ({in_words(e)}).", "Make one with --record FILE."
        ) from None
    return Recorded(series=series, window_s=window, step_s=step)
