"""Probes of one vLLM server, run inside its own container by the kubelet. Standard library only.

    probe.py startup        one real token has been generated, and, where a fingerprint is mounted beside this script,
                            its answers are those of the fleet's weights; remembered for this process
    probe.py readiness      that proof holds for this very process, HTTP answers, it is neither suspect nor dead
    probe.py liveness       it is not dead; asks for a token when only that tells more
    probe.py wait DIR LOCK  (init container) the weights are complete

Why not `GET /health`: it answers 200 while the scheduler hangs, and slowly when the server is merely busy. What is
evidence of life and of death is decided by `evidence.py`, the gateway's and the supervisor's own decision, which is
mounted beside this script. State lies in an emptyDir, which outlives the container: every record carries the start
time of PID 1, so a restarted engine proves itself again.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

try:
    from evidence import Opinion, Pace, Patience, Pulse, Sight, Verdict, look  # type: ignore[import-not-found]
except ImportError:  # outside a Pod
    from seawall.decide.route.evidence import Opinion, Pace, Patience, Pulse, Sight, Verdict, look


def setting(name: str, default: float) -> float:
    return float(os.environ.get(f"SEAWALL_{name}", default))


BASE = os.environ.get("SEAWALL_ENGINE_URL", "http://127.0.0.1:8000")
NEAR = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The engine is in this Pod: no proxy of the environment stands in front of it."""
STATE = Path(os.environ.get("SEAWALL_STATE_DIR", "/run/seawall"))
PATIENCE = Patience(
    quiet_s=setting("PROBE_QUIET_S", Patience.quiet_s), still_s=setting("PROBE_STILL_S", Patience.still_s)
)
PACE = Pace(
    prompt_token_s=setting("PROMPT_TOKEN_S", 0.01),
    prompt_pair_s=setting("PROMPT_PAIR_S", 0.0),
    step_tokens=int(setting("STEP_TOKENS", 8192)),
    context=int(setting("CONTEXT", 0)),
)
"""The engine's speed as planned; from the first prompts on its own histograms say how fast it is."""
TOKEN_TIMEOUT_S = setting("PROBE_TOKEN_S", 20)
TRUTH_S = setting("PROBE_TRUTH_S", 15)
"""Asking known prompts ends after so long, whether or not all of them were asked."""
AT_ONCE = 8
"""Sweeps that are asked at a time: alone in the engine, they would cost it a step each."""
HTTP_TIMEOUT_S = setting("PROBE_HTTP_S", 8)
ENGINE_PID = int(setting("ENGINE_PID", 1))
_SAMPLE = re.compile(r"^(vllm:[a-z_]+)(\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
MARKS = (
    "vllm:iteration_tokens_total_count",
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
    "vllm:kv_cache_usage_perc",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:num_preemptions_total",
)
"""Written by the engine after a step and by nothing else (engines/vllm/metrics.py has the same: a test compares)."""
_PREFILL_S = "vllm:request_prefill_time_seconds_sum"
_PREFILLED = "vllm:request_prefill_kv_computed_tokens_sum"
ENOUGH_TOKENS = 1000


ASLEEP = "the engine was put to sleep"


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
    """The record of this life of the container; empty when there is none, or when it is an earlier life's."""
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
    asked = urllib.request.Request(BASE + path, data, headers)
    with NEAR.open(asked, timeout=timeout_s) as answer:
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


def scrape() -> tuple[tuple[float, ...], Pace, bool]:
    """(what it writes after each step, its pace, whether it was put to sleep on purpose)."""
    found = dict.fromkeys((*MARKS, _PREFILL_S, _PREFILLED), 0.0)
    asleep = False
    for name, labels, value in _SAMPLE.findall(request("/metrics", HTTP_TIMEOUT_S)):
        if name in found:
            found[name] += float(value)
        elif name == "vllm:engine_sleep_state" and 'sleep_state="awake"' in labels and float(value) == 0:
            asleep = True
    pace, computed = PACE, found[_PREFILLED]
    if computed >= ENOUGH_TOKENS:
        pace = replace(PACE, prompt_token_s=found[_PREFILL_S] / computed, prompt_pair_s=0.0, seen=True)
    return tuple(found[name] for name in MARKS), pace, asleep


def used_cpu_s() -> tuple[float | None, float | None]:
    """CPU time of the engine's descendants, which compute, and of the server that answers HTTP. None: there are none,
    as with an engine that is one process, or they cannot be seen."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        used[pid] = int(fields[11]) + int(fields[12])
    family = [pid for pid in parents if pid != ENGINE_PID and _descends(pid, parents)]
    if not family:
        return None, None
    tick = os.sysconf("SC_CLK_TCK")
    return sum(used[pid] for pid in family) / tick, used.get(ENGINE_PID, 0) / tick


def _descends(pid: int, parents: dict[int, int]) -> bool:
    for _ in parents:
        pid = parents.get(pid, 0)
        if pid in (0, ENGINE_PID):
            break
    return pid == ENGINE_PID


def judge(answered: bool | None = None) -> Opinion:
    """One look, remembered."""
    marks, pace, asleep, gone = None, PACE, False, ""
    try:
        marks, pace, asleep = scrape()
    except OSError as e:  # metrics that do not come prove nothing; a port that nobody listens on does
        if isinstance(getattr(e, "reason", e), ConnectionRefusedError):
            gone = "the engine refuses connections"
    if asleep:
        return Opinion(Verdict.ALIVE, ASLEEP)
    state, now = load(), time.monotonic()
    known = state.get("pulse")
    pulse = Pulse(**{**known, "marks": tuple(known["marks"])}) if known else Pulse(sign_s=now)
    if pulse.sign_s > now:
        pulse = Pulse(sign_s=now)  # the node was started again
    cpu, server_cpu = used_cpu_s()
    sight = Sight(gone=gone, marks=marks, answered=answered, cpu_s=cpu, server_cpu_s=server_cpu)
    opinion, pulse = look(pulse, sight, pace, PATIENCE, now)
    save({**state, "pulse": asdict(pulse)})
    return opinion


def startup() -> None:
    try:
        request("/health", HTTP_TIMEOUT_S)
    except OSError as e:
        no(f"still loading: {e}")
    why = one_token() or wrong_answers()
    if why:
        no(why)
    save({**load(), "proved_at": time.time()})


def wrong_answers() -> str | None:
    """Why its answers are not the known ones; None: they are, or there is nothing to go by, as with a model that only
    embeds. Two prompts that moved, a sweep or rows that moved twice, or no logprob at all: rounding tips none. What
    takes too long is left to the gateway, which goes on asking."""
    file = Path(__file__).with_name("truth.json")
    if not file.is_file():
        return None
    from fingerprint import kind_of, read, WORDS  # type: ignore[import-not-found]  # noqa: I001

    every = read(json.loads(file.read_text("utf-8")))[0].known
    end = time.monotonic() + TRUTH_S
    # Rows are asked by themselves: beside others' logprobs vLLM 0.32 would mix up whose are whose.
    parts = [
        [k for k in every if k.prompt.kind in kinds] for kinds in (("chat", "text"), ("ids",), ("rows",))
    ]
    seen: list[Any] = []
    for n, part in enumerate(parts):
        now = time.monotonic()
        until = end - TRUTH_S / 3 if n == 0 else now + (end - now) / (len(parts) - n)
        found, why = _asked(part, until, at_once=1 if n == 0 else AT_ONCE)
        if why is not None:
            return why or None
        seen += found
        if n == 0 and not found:
            return "no answer to a known prompt"
        moved = [m for m in seen if m.moved]
        again, _ = _asked([k for k in part if any(k.prompt.name == m.prompt for m in moved)][:2], end + 1, 1)
        sure = [m for m in moved if m.how == "absurd"] or (n and [m for m in again if m.moved])
        if len(moved) > 1 or sure:
            told = "; ".join(map(str, moved[:3]))
            return f"it answers wrongly: {WORDS[kind_of(seen)]} ({len(moved)} of {len(seen)} prompts moved: {told})"
    return None


def _asked(known: list[Any], end: float, at_once: int) -> tuple[list[Any], str | None]:
    """How the answers that came until `end` are away from the known ones, and why nothing more is to be asked: with
    words, it is wrong; without, it cannot be asked."""
    from fingerprint import compare, WORDS  # noqa: I001
    from truth import answer_of, ask_of, is_no_number  # type: ignore[import-not-found]

    model, salt = os.environ.get("SEAWALL_MODEL", ""), os.urandom(9).hex()

    def one(k: Any) -> Any:
        left = end - time.monotonic()
        if left <= 0:
            return None
        path, body = ask_of(k.prompt, model, salt)
        try:
            return compare(k, answer_of(json.loads(request(path, left, body))))
        except urllib.error.HTTPError as e:
            if is_no_number(e.code, e.read(2**16).decode("utf-8", "replace")):
                return f"it answers wrongly: {WORDS['numeric']}"
            return "" if e.code in (400, 404, 405, 422) else f"HTTP {e.code} to a known prompt"
        except (OSError, ValueError):
            return None

    with ThreadPoolExecutor(at_once) as pool:
        found = list(pool.map(one, known))
    stop = next((f for f in found if isinstance(f, str)), None)
    return [f for f in found if f is not None and not isinstance(f, str)], stop


def readiness() -> None:
    if "proved_at" not in load():
        no("this engine has not generated a token yet")
    try:
        request("/health", HTTP_TIMEOUT_S)
    except urllib.error.HTTPError as e:
        no(f"/health answers {e.code}")
    except OSError as e:
        no(f"HTTP does not answer: {e}")
    opinion = judge()
    if opinion.reason == ASLEEP or opinion.verdict is not Verdict.ALIVE:
        no(opinion.reason)


def liveness() -> None:
    opinion = judge()
    if opinion.ask:
        why = one_token()
        opinion = judge(answered=why is None or "HTTP 4" in why)
    if opinion.verdict is Verdict.DEAD:
        no(opinion.reason)


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
