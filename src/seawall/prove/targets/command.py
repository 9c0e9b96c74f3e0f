"""Targets of which nothing is known beforehand: a command of the user's, and a gateway that runs already.

A command may use {port}, {urls} (with commas), {hosts} (HOST:PORT, with commas), {model} and {file}, a JSON list of
URLs. A word that is {urls...} alone becomes one word for each. A command that reads {file} is taken to follow it.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from seawall.errors import InputError
from seawall.load.client import LoadClient
from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace

LIST = "engines.json"
FIRST_PORT = 9101


class CommandTarget(TargetAdapter):
    """A command that serves at {port}."""

    source = "the command line"
    settings = ("as given",)

    def __init__(self, command: str) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as e:
            raise InputError(
                f"--target {command!r}: {e}.", "Write it as in a shell, with balanced quotes."
            ) from None
        self.name = Path(self.words[0]).name
        self.title = self.name
        can = {Need.PROCESS} | ({Need.REPLICAS} if "{file}" in command else set())
        self.can = frozenset(can)

    def install(self) -> Path | None:
        found = shutil.which(self.words[0])
        if found is None:
            raise InputError(f"--target: there is no program {self.words[0]}.", "Give its path.")
        return Path(found).absolute()

    def files(self, place: TargetPlace) -> dict[str, str]:
        return {LIST: json.dumps(list(place.engines))}

    def argv(self, place: TargetPlace) -> list[str]:
        values = {
            "{port}": str(place.port), "{urls}": ",".join(place.engines), "{hosts}": ",".join(place.hosts),
            "{model}": place.names[0], "{file}": str(place.folder / LIST),
        }  # fmt: skip
        argv = [str(place.program)]
        for word in self.words[1:]:
            if word == "{urls...}":
                argv += place.engines
                continue
            for name, value in values.items():
                word = word.replace(name, value)
            argv.append(word)
        return argv

    async def reload(self, place: TargetPlace, pid: int) -> None:
        place.write(self.files(place))


class UrlTarget(TargetAdapter):
    """A gateway that somebody else has started, in front of engines at ports that it knows already."""

    source = "runs already"
    settings = ("as it runs",)
    start_s = 600.0

    def __init__(self, url: str) -> None:
        self.url = LoadClient(url).url
        self.name = urlsplit(self.url).netloc.replace(":", "-")
        self.title = self.url

    def addresses(self, place: TargetPlace) -> list[str]:
        return [self.url]
