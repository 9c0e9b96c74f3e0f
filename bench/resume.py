"""What recording for a resume costs per chunk, in memory, and for a huge prompt.

    python bench/resume.py [--quick] [--json]

Every row relays the same chunks (vLLM 0.32's bytes, one event per read, as the network delivers them). The
bounds are in the same run: doing nothing, and decoding every event with msgspec, the fastest JSON reader here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from random import Random

import msgspec

from seawall.decide.route.resume import Policy, Retry, StreamSession

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
RNG = Random(1)
WORDS = ["Hello", " there", ",", " how", " are", " you", " do", "ing", " to", "day", "?", "\\n", "海", " \\"]


def chat_events(tokens: int, ids: bool, prompt: int = 20) -> list[bytes]:
    head = b'data: {"id":"chatcmpl-ab125305d4b1991a","object":"chat.completion.chunk","created":1795461324'
    head += b',"model":"smol"'
    echo = b"[" + b",".join(b"%d" % (i % 49152) for i in range(prompt)) + b"]" if ids else b"null"
    role = b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
    events = [head + role + b',"prompt_token_ids":' + echo + b',"prompt_text":null}\n\n']
    for i in range(tokens):
        word = WORDS[i % len(WORDS)].replace(" \\", ' \\"').encode()
        told = b"[%d]" % (i % 49152) if ids else b"null"
        finish = b"null" if i < tokens - 1 else b'"length","stop_reason":null'
        event = (
            head
            + b',"choices":[{"index":0,"delta":{"content":"'
            + word
            + b'"},"logprobs":null,"finish_reason":'
        )
        events.append(event + finish + b',"token_ids":' + told + b"}]}\n\n")
    return [*events, b"data: [DONE]\n\n"]


def body(**more: object) -> bytes:
    return json.dumps(
        {"model": "smol", "stream": True, "messages": [{"role": "user", "content": "hi"}], **more}
    ).encode()


def session(mode: str, **more: object) -> StreamSession:
    policy = Policy(mode="off" if mode == "off" else "exact", usage=False)
    return StreamSession(CHAT, body(**more), policy, RNG)


def per_chunk(make: Callable[[], Callable[[bytes], object]], events: list[bytes], rounds: int) -> float:
    """Best of `rounds`, in microseconds per event: CPU time, which a busy neighbour disturbs least."""
    best = float("inf")
    for _ in range(rounds):
        feed = make()
        begin = time.process_time()
        for event in events:
            feed(event)
        best = min(best, time.process_time() - begin)
    return best / len(events) * 1e6


def chunk_rows(rounds: int) -> dict[str, float]:
    plain, told = chat_events(2000, False), chat_events(2000, True)
    logprobs = [e.replace(b'"logprobs":null', b'"logprobs":{"content":[]}') for e in plain]
    decode = msgspec.json.Decoder(dict).decode
    return {
        "nothing (a function call)": per_chunk(lambda: lambda data: data, plain, rounds),
        "msgspec reads every event": per_chunk(
            lambda: lambda data: decode(data[6:-2]) if data[6:7] == b"{" else data, plain, rounds
        ),
        "json reads every event": per_chunk(
            lambda: lambda data: json.loads(data[6:-2]) if data[6:7] == b"{" else data, plain, rounds
        ),
        "resume: off": per_chunk(lambda: session("off").feed, plain, rounds),
        "replay, recording text": per_chunk(lambda: session("on", seed=1).feed, plain, rounds),
        "continue, recording token ids": per_chunk(lambda: session("on", temperature=0).feed, told, rounds),
        "replay with logprobs (the slow path)": per_chunk(
            lambda: session("on", temperature=0, logprobs=True).feed, logprobs, rounds
        ),
    }


def whole_rows(rounds: int) -> dict[str, float]:
    """Microseconds for what happens once: beginning, a huge prompt's echo, a break after 1,000 tokens."""
    echo = chat_events(1, True, prompt=100_000)[0]
    off = chat_events(1, False)[0]

    def once(work: Callable[[], object]) -> float:
        times = []
        for _ in range(rounds * 5):
            begin = time.process_time()
            work()
            times.append(time.process_time() - begin)
        return statistics.median(times) * 1e6

    def broken() -> None:
        one = session("on", temperature=0, max_tokens=2000)
        for event in chat_events(1000, True, prompt=1000)[:-2]:
            one.feed(event)
        begin = time.process_time()
        assert isinstance(one.broken("reset", 0.0), Retry)
        breaks.append(time.process_time() - begin)

    breaks: list[float] = []
    for _ in range(rounds):
        broken()
    return {
        "begin a session": once(lambda: session("on", temperature=0)),
        "begin a session (off)": once(lambda: session("off")),
        "echo of a 100,000 token prompt": once(lambda: session("on", temperature=0).feed(echo)),
        "the first event without it": once(lambda: session("off").feed(off)),
        "decide a break after 1,000 tokens": statistics.median(breaks) * 1e6,
    }


def memory_rows() -> dict[str, float]:
    """Bytes of record per stream of 500 tokens behind a prompt of 1,000."""
    one = session("on", temperature=0)
    for event in chat_events(500, True, prompt=1000)[:-2]:
        one.feed(event)
    huge = session("on", temperature=0)
    for event in chat_events(10, True, prompt=100_000)[:-2]:
        huge.feed(event)
    return {"record of 1,000 + 500 tokens": one.nbytes, "record of 100,000 + 10 tokens": huge.nbytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rounds = 15 if args.quick else 60
    chunk, whole, memory = chunk_rows(rounds), whole_rows(rounds), memory_rows()
    if args.json:
        json.dump({"us_per_chunk": chunk, "us_once": whole, "bytes": memory}, sys.stdout, indent=1)
        print()
        return
    bound = chunk["msgspec reads every event"]
    print(f"{'per chunk':<42}{'us':>8}{'x msgspec':>12}")
    for name, value in chunk.items():
        print(f"{name:<42}{value:>8.2f}{value / bound:>12.2f}")
    print(f"\n{'once':<42}{'us':>8}")
    for name, value in whole.items():
        print(f"{name:<42}{value:>8.0f}")
    print(f"\n{'memory':<42}{'KiB':>8}")
    for name, value in memory.items():
        print(f"{name:<42}{value / 1024:>8.1f}")


if __name__ == "__main__":
    main()
