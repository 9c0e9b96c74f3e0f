"""Makes the docs' screenshots: the console of a `seawall up` on simulated engines, by day, by night and on a phone.

    make pictures

They go to docs/pictures/made, which is not committed: whoever builds the docs makes them. Needs Chromium
(scripts/test_tools.sh) and the console's libraries (scripts/console_libs.sh).
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "docs/pictures/made"
SIZES: dict[str, dict[str, Any]] = {
    "console": {"viewport": {"width": 1280, "height": 900}},
    "console-dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "console-phone": {"viewport": {"width": 390, "height": 844}},
}
BEFORE_MS, SHOWN_MS = 10_000, 12_000
"""How long it is watched before and after a replica is killed."""
TOKENS = 1500
"""Of each stream that runs meanwhile."""


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from tests.e2e.console.browser import MISSING, chromium, found
    from tests.e2e.console.test_page import stream
    from tests.e2e.local.up_process import Load, fleet_file, seawall_up

    if found() is None:
        print(f"pictures: {MISSING}", file=sys.stderr)
        return 1
    MADE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with seawall_up(place, fleet_file(place, low=3, high=4, load=0.2)) as up:
            up.settled()
            url = f"{up.status()['gateway']['admin_url']}/console"
            with chromium() as browser, Load(up, pause_s=0.02):
                pages = {name: browser.new_context(**size).new_page() for name, size in SIZES.items()}
                for page in pages.values():
                    page.goto(url)
                    page.wait_for_selector("#state.live")
                begun = threading.Semaphore(0)
                streams = [stream(up, TOKENS, begun, []) for _ in range(6)]
                for _ in streams:
                    begun.acquire(timeout=60)
                next(iter(pages.values())).wait_for_timeout(BEFORE_MS)
                victim = up.until(lambda s: max(s["replicas"], key=lambda r: r["in_flight"] or 0))
                os.kill(victim["pid"], signal.SIGKILL)
                next(iter(pages.values())).wait_for_timeout(SHOWN_MS)
                for name, page in pages.items():
                    page.screenshot(path=str(MADE / f"{name}.png"), full_page=True)
                    print(f"made {(MADE / f'{name}.png').relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
