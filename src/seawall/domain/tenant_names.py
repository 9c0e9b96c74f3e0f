"""Names that tenants may have: they stand in logs, labels of metrics, and headers. Plain data."""

from __future__ import annotations

import re
from typing import Final

TENANT: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
TENANT_CURE: Final = "use a-z, 0-9, '-' and '.', at most 63"
