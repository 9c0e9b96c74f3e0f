"""A transport that leads nowhere: whoever writes to it is not heard, and may go on as if he were."""

from __future__ import annotations

import asyncio
from typing import Any


class Nowhere(asyncio.Transport):
    """See the module. It is open for ever, and takes everything at once."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Nobody hears it."""

    def close(self) -> None:
        """It stays."""

    abort = write_eof = pause_reading = resume_reading = close

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default
