"""The only speaker of vLLM's HTTP and metrics outside the gateway's data path: prove one token, read the load.

Talks to one replica at a time, always with a timeout. Nothing here decides what an answer means for a
replica's life.
"""

from __future__ import annotations

import os
from typing import Any

import httpx2

from seawall.decide.truth.fingerprint import WORDS, PinnedPrompt, TruthAnswer
from seawall.engines.vllm.load import EngineLoad, parse_load
from seawall.engines.vllm.truth import answer_of, ask_of, is_no_number
from seawall.errors import EngineError, of_kind

MAX_METRICS_BYTES = 4 * 2**20


class EngineClient:
    """Asks one replica after another; holds no connection open between asks."""

    def __init__(self) -> None:
        # No proxy from the environment: a replica is a neighbour.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._http = httpx2.AsyncClient(trust_env=False, limits=limits, follow_redirects=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def listens(self, url: str, timeout_s: float = 2.0) -> bool:
        """Whether the replica answers on its port. vLLM listens only when its model is loaded."""
        try:
            answer = await self._http.get(f"{url}/v1/models", timeout=timeout_s)
        except (httpx2.HTTPError, OSError):
            return False
        return answer.status_code == 200

    async def token(
        self, url: str, model: str, timeout_s: float, headers: dict[str, str] | None = None
    ) -> None:
        """Generates one real token. EngineError says what came instead: the only proof that a replica serves."""
        body: dict[str, Any] = {"model": model, "prompt": "Hi", "max_tokens": 1, "temperature": 0}
        try:
            answer = await self._http.post(
                f"{url}/v1/completions",
                json=body,
                timeout=timeout_s,
                headers={"x-request-id": "probe", **(headers or {})},
            )
        except httpx2.TimeoutException:
            raise EngineError(f"no token within {timeout_s:g} s") from None
        except (httpx2.HTTPError, OSError) as e:
            raise EngineError(f"no answer ({of_kind(e)})") from None
        if answer.status_code in (404, 405) and await self._embeds(url, model, timeout_s):
            return
        if answer.status_code != 200:
            raise EngineError(f"asked for one token it answered {answer.status_code}: {answer.text[:200]}")
        try:
            choice = answer.json()["choices"][0]
        except (ValueError, LookupError, TypeError):
            raise EngineError(f"asked for one token it answered {answer.text[:200]!r}") from None
        if choice.get("finish_reason") not in ("length", "stop"):
            raise EngineError(f"its token ended with finish_reason {choice.get('finish_reason')!r}")

    async def answer(
        self,
        url: str,
        model: str,
        prompt: PinnedPrompt,
        timeout_s: float,
        headers: dict[str, str] | None = None,
    ) -> TruthAnswer | None:
        """The answer to a prompt of a fingerprint; None: it takes no such requests, as a model that only embeds, or one
        with fewer logprobs (`--max-logprobs`). EngineError says what came instead."""
        path, body = ask_of(prompt, model, os.urandom(9).hex())
        try:
            answer = await self._http.post(f"{url}{path}", json=body, timeout=timeout_s, headers=headers)
            if is_no_number(answer.status_code, answer.text):
                raise EngineError(f"it answers wrongly: {WORDS['numeric']}")
            if answer.status_code in (400, 404, 405, 422):
                return None
            if answer.status_code != 200:
                raise EngineError(
                    f"asked {prompt.name} it answered {answer.status_code}: {answer.text[:200]}"
                )
            given: TruthAnswer = answer_of(answer.json())
            return given
        except (httpx2.HTTPError, OSError, ValueError) as e:
            raise EngineError(f"asked {prompt.name} it gave no answer ({of_kind(e)})") from None

    async def _embeds(self, url: str, model: str, timeout_s: float) -> bool:
        """A replica of an embedding model has no completions; one embedding proves it."""
        try:
            answer = await self._http.post(
                f"{url}/v1/embeddings", json={"model": model, "input": "Hi"}, timeout=timeout_s
            )
            return answer.status_code == 200 and bool(answer.json()["data"][0]["embedding"])
        except (httpx2.HTTPError, OSError, ValueError, LookupError, TypeError):
            return False

    async def load(self, url: str, timeout_s: float = 5.0) -> EngineLoad | None:
        """The replica's load; None when /metrics cannot be read. EngineError: nothing came in time."""
        try:
            answer = await self._http.get(f"{url}/metrics", timeout=timeout_s)
        except httpx2.TimeoutException:
            raise EngineError(f"no answer to /metrics within {timeout_s:g} s") from None
        except (httpx2.HTTPError, OSError):
            return None
        if answer.status_code != 200 or len(answer.content) > MAX_METRICS_BYTES:
            return None
        return parse_load(answer.text)

    async def sleep(self, url: str, patience_s: float) -> None:
        """vLLM's sleep mode, level 1: weights to host memory, KV cache dropped. What runs may finish for
        `patience_s`, then it is aborted. EngineError when it does not sleep after that. Needs the engine's
        VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode."""
        for mode, timeout_s in (("wait", patience_s), ("abort", 60.0)):
            try:
                answer = await self._http.post(
                    f"{url}/sleep", params={"level": "1", "mode": mode}, timeout=max(0.1, timeout_s)
                )
            except (httpx2.HTTPError, OSError) as e:
                if mode == "abort" or not isinstance(e, httpx2.TimeoutException):
                    raise EngineError(f"no answer to /sleep ({of_kind(e)})") from None
                continue
            if answer.status_code != 200:
                raise EngineError(f"/sleep answered {answer.status_code}: {answer.text[:200]}")
            return

    async def wake(self, url: str, timeout_s: float = 120.0) -> None:
        """Ends the sleep. EngineError says what came instead."""
        try:
            answer = await self._http.post(f"{url}/wake_up", timeout=timeout_s)
        except (httpx2.HTTPError, OSError) as e:
            raise EngineError(f"no answer to /wake_up ({of_kind(e)})") from None
        if answer.status_code != 200:
            raise EngineError(f"/wake_up answered {answer.status_code}: {answer.text[:200]}")

    async def sleeps(self, url: str) -> bool | None:
        """Whether it sleeps; None when it does not say."""
        answer = await self.get_json(f"{url}/is_sleeping")
        return bool(answer["is_sleeping"]) if answer and "is_sleeping" in answer else None

    async def adapters(self, url: str, timeout_s: float = 5.0, key: str | None = None) -> dict[str, str]:
        """LoRA adapter -> path, as /v1/models lists them now. EngineError when it does not say."""
        page = await self.get_json(f"{url}/v1/models", timeout_s, key)
        rows = page.get("data") if page else None
        if not isinstance(rows, list):
            raise EngineError("/v1/models does not answer")
        return {str(r.get("id")): str(r.get("root")) for r in rows if isinstance(r, dict) and r.get("parent")}

    async def load_adapter(
        self, url: str, name: str, path: str, timeout_s: float = 120.0, key: str | None = None
    ) -> None:
        """EngineError says why it was not loaded. Needs VLLM_ALLOW_RUNTIME_LORA_UPDATING and --enable-lora."""
        body = {"lora_name": name, "lora_path": path}
        await self._lora(f"{url}/v1/load_lora_adapter", body, timeout_s, key)

    async def unload_adapter(self, url: str, name: str, timeout_s: float = 30.0) -> None:
        """New requests for it are refused from now; those that run finish."""
        await self._lora(f"{url}/v1/unload_lora_adapter", {"lora_name": name}, timeout_s)

    async def _lora(self, url: str, body: dict[str, str], timeout_s: float, key: str | None = None) -> None:
        try:
            answer = await self._http.post(url, json=body, timeout=timeout_s, headers=_bearer(key))
        except (httpx2.HTTPError, OSError) as e:
            raise EngineError(f"no answer ({of_kind(e)})") from None
        if answer.status_code != 200:
            raise EngineError(f"it answered {answer.status_code}: {answer.text[:300]}")

    async def get_json(
        self, url: str, timeout_s: float = 2.0, key: str | None = None
    ) -> dict[str, Any] | None:
        """A JSON object from a neighbour's admin page; None when it does not come."""
        try:
            answer = await self._http.get(url, timeout=timeout_s, headers=_bearer(key))
            data = answer.json() if answer.status_code == 200 else None
        except (httpx2.HTTPError, OSError, ValueError):
            return None
        return data if isinstance(data, dict) else None

    async def ok(self, url: str, timeout_s: float = 2.0) -> bool:
        """GET answers 200."""
        try:
            return (await self._http.get(url, timeout=timeout_s)).status_code == 200
        except (httpx2.HTTPError, OSError):
            return False


def _bearer(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}
