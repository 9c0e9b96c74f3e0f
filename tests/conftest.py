"""What all tests share: hypothesis without deadlines (a loaded machine is no failure), and in CI the same examples
every time, so that a red run is about the change and not about luck. Locally every run explores anew."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
