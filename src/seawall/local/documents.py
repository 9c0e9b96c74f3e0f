"""The Fleets as this machine's gateway reads them: with the plan's bounds, as in a cluster's ConfigMap.

Why: the engines are started with the plan's limits, so a gateway that knew only the spec would send more than they
take. A spec that changes while they run is written anew; the plan stays the one that they were started with.
Forbidden here: planning, and ending what serves: a spec that cannot be read leaves the last good one in place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from seawall.config.load import load_fleets
from seawall.config.planned import document_of
from seawall.config.together import check_together
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet
from seawall.drivers import cache
from seawall.errors import SeawallError
from seawall.weights.truth_file import truth_path

FileStamp = tuple[int, ...] | None


class Documents:
    """One file that follows several specs."""

    def __init__(self, specs: Sequence[Path], plans: Mapping[str, Plan | None], path: Path) -> None:
        self.specs, self.path = tuple(specs), path
        self._plans = plans
        self._seen = self._marks()

    def write(self, fleets: Iterable[Fleet]) -> None:
        """Writes the document. OSError when it cannot be written."""
        fleets = tuple(fleets)
        self._bring_truths(fleets)
        shown = [document_of(f, self._plans.get(f.name)) for f in fleets]
        # JSON is YAML, too.
        cache.write_atomic(self.path, "\n---\n".join(json.dumps(s, ensure_ascii=False) for s in shown) + "\n")

    def truth(self, fleet: str) -> Path:
        """Where the gateway and the replicas of this machine look for a fleet's fingerprint."""
        return truth_path(self.path.parent, fleet)

    def _bring_truths(self, fleets: Sequence[Fleet]) -> None:
        """The fingerprints that lie beside the specs lie beside the document, too; one that is gone there goes here."""
        for fleet in fleets:
            found = [p for p in (truth_path(spec.parent, fleet.name) for spec in self.specs) if p.is_file()]
            if found and found[0] != self.truth(fleet.name):
                cache.write_atomic(self.truth(fleet.name), found[0].read_text("utf-8"))
            elif not found:
                self.truth(fleet.name).unlink(missing_ok=True)

    def follow(self, note: Callable[[str, str], None]) -> None:
        """Writes anew when a spec has changed; what is wrong with it is said once for each change."""
        if (seen := self._marks()) == self._seen:
            return
        try:
            fleets = [f for spec in self.specs for f in load_fleets(spec)]
            check_together(fleets)
            self.write(fleets)
            note("gateway", "a spec has changed: it is read again; what runs is not")
        except SeawallError as e:
            note("gateway", f"a spec has changed and cannot be read; the old one stays: {e.message}")
        except OSError as e:
            note("gateway", f"{self.path.name} cannot be replaced: {e.strerror}")
        self._seen = seen

    def _marks(self) -> tuple[FileStamp, ...]:
        truths = [truth_path(spec.parent, name) for spec in self.specs for name in self._plans]
        return tuple(_mark(path) for path in (*self.specs, *truths))


def _mark(path: Path) -> FileStamp:
    """A file's stamp, which changes whenever its content may have changed; None while there is no file."""
    try:
        st = path.stat()
    except OSError:
        return None
    return st.st_ino, st.st_mtime_ns, st.st_size, st.st_dev
