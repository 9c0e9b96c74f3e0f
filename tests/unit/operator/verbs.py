"""A person's verbs against the double, while an operator works in the same process."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from seawall.cli.group import seawall as group
from seawall.errors import SeawallError
from seawall.testing.kube_api import KubeApi


@dataclass
class Said:
    """What a verb answered."""

    code: int
    text: str
    """Everything that was printed, and the error."""
    out: str = ""
    """Standard output alone."""


@dataclass
class Person:
    """Types verbs with all rights, whatever the operator has."""

    api: KubeApi
    folder: Path

    async def types(self, *words: str) -> Said:
        return await asyncio.to_thread(self.type, *words)

    def type(self, *words: str) -> Said:
        rights, self.api.rights = self.api.rights, None
        try:
            config = self.api.kubeconfig(self.folder, "llm")
            result = CliRunner().invoke(group, [*words, "--kubeconfig", config])
        finally:
            self.api.rights = rights
        e = result.exception
        if isinstance(e, SeawallError):
            return Said(e.exit_code, f"{result.output}{e}", result.stdout)
        assert e is None or isinstance(e, SystemExit), e
        return Said(result.exit_code, result.output, result.stdout)

    def writes(self, *fleets: dict[str, Any], name: str = "fleet.yaml") -> str:
        path = self.folder / name
        docs = [json.loads(json.dumps(f)) for f in fleets]
        path.write_text(yaml.safe_dump_all(docs))
        return str(path)
