"""`seawall` in a process whose time of day can be set, as `date -s` does for a machine, without root.

    python -m seawall.prove.set_clock FILE up fleet.yaml

`time.time()` is off by the seconds that FILE holds at that moment. Written by `UpFleet.set_clock`.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path


def main() -> None:
    place, right = Path(sys.argv.pop(1)), time.time

    def off() -> float:
        return right() + float(place.read_text())

    time.time = off
    runpy.run_module("seawall", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
