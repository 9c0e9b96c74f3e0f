"""Probes of one vLLM server, run inside its own container by the kubelet. Standard library only.

    probe.py startup        one real token has been generated; remembered for this process
    probe.py readiness      that proof holds for this very process, HTTP answers, the scheduler moves
    probe.py liveness       the scheduler moves, or one token can still be generated
    probe.py wait DIR LOCK  (init container) the weights are complete

Why not `GET /health`: it answers 200 while the scheduler hangs, and slowly when the server is merely busy.
A busy engine moves its counters, so it costs one scrape and is never killed; an idle or stuck one moves
nothing, and only then a token is asked for. State lies in an emptyDir, which outlives the container: every
record carries the start time of PID 1, so a restarted engine proves itself again.
Exit 0: yes. Exit 1: no, with one line that `kubectl describe pod` shows.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

BASE = os.environ.get("SEAWALL_ENGINE_URL", "http://127.0.0.1:8000")
STATE = Path(os.environ.get("SEAWALL_STATE_DIR", "/run/seawall"))
QUIET_S = float(os.environ.get("SEAWALL_PROBE_QUIET_S", "30"))
"""Counters that stand still for so long are looked into."""
STUCK_S = float(os.environ.get("SEAWALL_PROBE_STUCK_S", "60"))
"""With work in the engine and no progress for so long, it gets no new requests."""
TOKEN_TIMEOUT_S = float(os.environ.get("SEAWALL_PROBE_TOKEN_S", "20"))
HTTP_TIMEOUT_S = float(os.environ.get("SEAWALL_PROBE_HTTP_S", "8"))
_SAMPLE = re.compile(r"^(vllm:[a-z_]+)(\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
_MOVES = (
    "vllm:iteration_tokens_total_count",
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
    "vllm:request_success_total",
)
_WORK = ("vllm:num_requests_running", "vllm:num_requests_waiting")


def no(why: str) -> NoReturn:
    print(why)
    sys.exit(1)


def boot() -> str:
    """Start time of PID 1, the engine: tells one life of the container from the next."""
    if "SEAWALL_ENGINE_BOOT" in os.environ:
        return os.environ["SEAWALL_ENGINE_BOOT"]
    try:
        return Path("/proc/1/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return "unknown"


def load() -> dict[str, Any]:
    """This life's record; empty when there is none or it is another life's."""
    try:
        state = json.loads((STATE / "probe.json").read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and state.get("boot") == boot() else {}


def save(state: dict[str, Any]) -> None:
    """Replaced in one step: startup, readiness and liveness may run at the same time."""
    part = STATE / f"probe.{os.getpid()}.part"
    part.write_text(json.dumps({**state, "boot": boot()}))
    part.replace(STATE / "probe.json")


def request(path: str, timeout_s: float, body: dict[str, Any] | None = None) -> str:
    """The answer's text. OSError on refusal and timeout, HTTPError on 4xx and 5xx."""
    headers = {"Content-Type": "application/json"}
    if os.environ.get("VLLM_API_KEY"):
        headers["Authorization"] = "Bearer " + os.environ["VLLM_API_KEY"]
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(BASE + path, data, headers), timeout=timeout_s
    ) as answer:
        text: str = answer.read(4 * 2**20).decode("utf-8", "replace")
        return text


def one_token() -> str | None:
    """None when the engine really generated a token, else why not. A refusal (4xx) is told apart by its text."""
    model = os.environ.get("SEAWALL_MODEL", "")
    body = {"model": model, "prompt": "1", "max_tokens": 1, "temperature": 0, "stream": False}
    try:
        answer = json.loads(request("/v1/completions", TOKEN_TIMEOUT_S, body))
        choice = answer["choices"][0]
        if answer["usage"]["completion_tokens"] < 1 or choice["finish_reason"] == "abort":
            return f"the engine answered without a token (finish_reason {choice['finish_reason']})"
    except urllib.error.HTTPError as e:
        return f"HTTP {e.code} to a request for one token"
    except OSError as e:
        return f"no token within {TOKEN_TIMEOUT_S:g} s: {e}"
    except (ValueError, KeyError, IndexError, TypeError):
        return "the engine's answer is not a completion"
    return None


def scrape() -> tuple[list[float], float, bool]:
    """(counters that move when the scheduler does, requests in the engine, put to sleep on purpose)."""
    moves = dict.fromkeys(_MOVES, 0.0)
    work, asleep = 0.0, False
    for name, labels, value in _SAMPLE.findall(request("/metrics", HTTP_TIMEOUT_S)):
        if name in moves:
            moves[name] += float(value)
        elif name in _WORK:
            work += float(value)
        elif name == "vllm:engine_sleep_state" and 'sleep_state="awake"' in labels and float(value) == 0:
            asleep = True
    return list(moves.values()), work, asleep


def quiet_for(state: dict[str, Any], moves: list[float]) -> float:
    """Seconds since the counters last moved; notes it when they just did."""
    now = time.time()
    if state.get("moves") != moves or not 0 <= now - state.get("moved_at", 0.0) < 86400:
        save({**state, "moves": moves, "moved_at": now})
        return 0.0
    return float(now - state["moved_at"])


def startup() -> None:
    try:
        request("/health", HTTP_TIMEOUT_S)
    except OSError as e:
        no(f"still loading: {e}")
    why = one_token()
    if why:
        no(why)
    save({**load(), "proved_at": time.time()})


def readiness() -> None:
    state = load()
    if "proved_at" not in state:
        no("this engine has not generated a token yet")
    try:
        request("/health", HTTP_TIMEOUT_S)
        moves, work, asleep = scrape()
    except urllib.error.HTTPError as e:
        if "/health" in e.url:
            no(f"/health answers {e.code}")
        return  # it serves, only its metrics are broken: an alert's business
    except OSError as e:
        no(f"HTTP does not answer: {e}")
    if asleep:
        no("the engine was put to sleep")
    still = quiet_for(state, moves)
    if work > 0 and still > STUCK_S:
        no(f"{work:g} requests in the engine and no progress for {still:.0f} s")


def liveness() -> None:
    state = load()
    moves = state.get("moves")
    try:
        moves, _, asleep = scrape()
        if asleep or quiet_for(state, moves) < QUIET_S:
            return
    except OSError:
        pass  # metrics alone prove nothing; a token does
    why = one_token()
    if why and "HTTP 4" not in why:
        no(why)
    save({**load(), "moves": moves, "moved_at": time.time()})


def wait(folder: str, lock: str) -> None:
    """Returns when every file of the lockfile lies in `folder` in its full size. Without a lockfile: when the
    loader's marker does."""
    said = ""
    while True:
        missing = missing_weights(Path(folder), Path(lock))
        if missing is None:
            return
        if missing != said:
            print(f"waiting for the weights: {missing}", flush=True)
            said = missing
        time.sleep(5)


def missing_weights(folder: Path, lock: Path) -> str | None:
    """What is missing, in words; None when nothing is."""
    if not folder.is_dir():
        return f"{folder} is not there; does the loader Job run?"
    if not lock.is_file():
        if any((folder / name).exists() for name in (".seawall/complete.json", "config.json")):
            return None
        return f"{folder} is not complete yet"
    try:
        files = json.loads(lock.read_text())["files"]
        pairs = [(f["path"], int(f["size"])) for f in files]
    except (OSError, ValueError, KeyError, TypeError) as e:
        return f"the lockfile cannot be read ({type(e).__name__})"
    for name, size in pairs:
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{name} is not there in full ({size} bytes)"
    return None


def main(argv: list[str]) -> None:
    checks = {"startup": startup, "readiness": readiness, "liveness": liveness}
    if len(argv) == 4 and argv[1] == "wait":
        wait(argv[2], argv[3])
    elif len(argv) == 2 and argv[1] in checks:
        checks[argv[1]]()
    else:
        sys.exit("usage: probe.py startup|readiness|liveness|wait DIR LOCK")


if __name__ == "__main__":
    main(sys.argv)
