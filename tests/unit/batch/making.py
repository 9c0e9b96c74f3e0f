"""What the lane's tests make: batches, input files, results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from seawall.batch.words import BatchRecord, LineResult

CHAT = "/v1/chat/completions"


def a_batch(name: str = "batch_1", **fields: Any) -> BatchRecord:
    made = BatchRecord(
        id=name, tenant="t", endpoint=CHAT, input_file="file-in", window_s=86_400, window="24h", created=1000
    )
    return replace(made, **fields)


def a_line(name: str, **changes: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": f"say {name}"}], "max_tokens": 4}
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": body, **changes}


def write_lines(path: Path, lines: list[Any]) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{t}\n" for t in texts))
    return path


def a_result(line: int, good: bool = True, text: str = "") -> LineResult:
    return LineResult(line, good, (text or f'{{"line":{line}}}').encode(), 3, 2, 0.5)
