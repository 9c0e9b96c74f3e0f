"""The command line: one file per verb; parse, call, print. No logic, and no heavy import before a verb runs.

`COMMANDS` is the whole map, by life cycle. `seawall --help` is printed from it without importing click or a
single verb, which keeps it under 150 ms; `seawall.cli.group` runs everything else. A verb's file defines
`command`, a click command.
"""

from __future__ import annotations

import errno
import os
import sys

COMMANDS: dict[str, str] = {
    "up": "Serve fleets, or a model, on this machine: replicas, gateway, autoscaling.",
    "chat": "Talk to a served model in the terminal.",
    "console": "Look at fleets in a browser: numbers, timeline, playground.",
    "status": "Show what `seawall up` is running.",
    "rollout": "Restart or scale the replicas of a running fleet.",
    "logs": "Show a replica's or the gateway's log.",
    "down": "End the `seawall up` of this machine.",
    "bench": "Measure a server under load: latencies, goodput, capacity, calibration.",
    "prove": "Prove that no stream is lost, token by token, while things go wrong.",
    "init": "Write a commented Fleet to start from.",
    "explain": "Say what a field of a Fleet means.",
    "plan": "Say what a fleet needs and will hold, before you deploy.",
    "simulate": "Run a fleet against a load in simulated time: latency, losses, cost.",
    "pull": "Download a model's weights, verified and pinned by a lockfile.",
    "fingerprint": "Write what a model must answer, so that a wrong replica is found.",
    "models": "Name weights once, pinned and verified, for fleets to refer to.",
    "render": "Turn a Fleet into Kubernetes objects: plain, kustomize, helm, argocd or flux.",
    "lint": "Find what will go wrong with vLLM manifests, before it does.",
    "engine": "Install the engine's environment, or run a simulated engine.",
    "cache": "Show and free what is kept on this machine.",
    "keys": "Make, list and revoke API keys of the gateway's tenants.",
    "batch": "Run files of requests on what interactive traffic leaves.",
    "gateway": "Serve fleets at one OpenAI-compatible address.",
    "doctor": "Say whether a cluster can serve a fleet, and what mends it.",
    "diff": "Show what apply would change in a cluster.",
    "apply": "Apply fleets to a cluster and wait for the first token.",
    "delete": "Delete what apply made, and nothing else.",
    "diagnose": "Say why a fleet does not serve, surest cause first.",
    "advise": "Say whether to scale up, out or in, from Prometheus, and the cost.",
    "operator": "Keep Fleet objects in a cluster as they are meant to be.",
    "schema": "Print the JSON Schema of a Fleet, for editors.",
    "completion": "Print the completion script of bash, zsh or fish.",
}

BROKEN_PIPE = 128 + 13
"""The exit code when the reader of our output went away: what SIGPIPE gives, never that of findings."""
INTRO = "vLLM on Kubernetes that never drops a request."
START = "Start here: `seawall up` serves a real model on this machine."


def help_text(columns: int | None = None) -> str:
    """What `seawall --help` prints, within so many columns."""
    import textwrap

    width = max(map(len, COMMANDS))
    room = 200 if columns is None else max(20, columns - width - 4)
    rows = "\n".join(
        f"  {name:{width}}  " + f"\n{'':{width + 4}}".join(textwrap.wrap(what, room))
        for name, what in COMMANDS.items()
    )
    return (
        f"Usage: seawall COMMAND [OPTIONS] ...\n\n  {INTRO}\n\n  {START}\n\nCommands:\n{rows}\n\n"
        "Options:\n  --version   Show the version.\n  -h, --help  Show this message.\n\n"
        "`seawall COMMAND --help` teaches one command."
    )


def main() -> None:
    """Entry point: runs the command, and says so in a line when its output or a file has no room."""
    try:
        try:
            _run()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        sys.exit(BROKEN_PIPE)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        drop_output()
        what = e.filename or "the output, or a file,"
        print(f"seawall: {what} cannot be written: {e.strerror}.", file=sys.stderr)
        print("  Make room there, or write elsewhere.", file=sys.stderr)
        sys.exit(2)


def drop_output() -> None:
    """What standard output still holds back must not be tried again at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _run() -> None:
    """The three things a person types first need no import; the rest goes through click."""
    args = sys.argv[1:]
    if "_SEAWALL_COMPLETE" in os.environ:  # the shell asks for completions, and passes no arguments
        from seawall.cli.group import run

        run()
    if args in ([], ["--help"], ["-h"]):
        from seawall.cli import terminal

        print(help_text(terminal.width()))
        sys.exit(0)
    if args == ["--version"]:
        from seawall import __version__

        print(f"seawall {__version__}")
        sys.exit(0)
    from seawall.cli.group import run

    run()
