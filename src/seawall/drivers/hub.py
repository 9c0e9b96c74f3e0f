"""The Hugging Face hub, or a mirror of it (HF_ENDPOINT): what a repository holds, and one small file of it.

The only speaker of the hub. Its own client lists and authorizes; this module decides how long an absent hub is
waited for and turns whatever goes wrong into one sentence with a cure, because the client's exceptions, retries and
log lines change with the HTTP library below it. Forbidden here: weights (they come through our own ranged reader),
and a token in any message. Tokens come from HF_TOKEN, HF_TOKEN_PATH or the client's login file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from seawall.drivers.near import near
from seawall.errors import InputError, SeawallError, SourceError, of_kind

ATTEMPTS = 5
"""Attempts at a hub that answers but is busy. One that cannot be reached is asked twice: no name, no route and no
listener do not mend in seconds, and a person waits."""
ASKED_AGAIN = 2
CONNECT_S, ANSWER_S, MAX_WAIT_S = 8.0, 20.0, 30.0
_ELSEWHERE = "file:///folder, pypi://, s3:// and oci:// need no hub; HF_ENDPOINT names a mirror."

SleepFor = Callable[[float], None]


def endpoint(env: Mapping[str, str]) -> str:
    """The address of the hub that is asked."""
    return env.get("HF_ENDPOINT", "").strip().rstrip("/") or "https://huggingface.co"


def token(env: Mapping[str, str]) -> str | None:
    """The token of the environment or of the client's login file."""
    if env.get("HF_TOKEN"):
        return env["HF_TOKEN"].strip()
    path = env.get("HF_TOKEN_PATH") or str(Path(env.get("HF_HOME", "~/.cache/huggingface")) / "token")
    try:
        return Path(path).expanduser().read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def file_url(repo: str, path: str, revision: str, env: Mapping[str, str]) -> str:
    """Where a file of a repository is downloaded from."""
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(repo_id=repo, filename=path, revision=revision, endpoint=endpoint(env)))


def repository(repo: str, revision: str | None, env: Mapping[str, str], sleep: SleepFor = time.sleep) -> Any:
    """The hub's `ModelInfo` of a repository, with the sizes and hashes of its files.

    InputError when there is none, or it may not be seen; SourceError when the hub does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint(env), token=token(env) or False, library_name="seawall")

    def ask() -> Any:
        return api.model_info(repo, revision=revision, files_metadata=True, timeout=ANSWER_S)

    return _asked(ask, repo, revision, env, sleep)


def small_file(
    repo: str,
    path: str,
    revision: str | None,
    env: Mapping[str, str],
    limit: int,
    sleep: SleepFor = time.sleep,
) -> bytes | None:
    """A file of at most `limit` bytes; None when the repository has none of that name. Raises as `repository`."""
    import httpx2

    url = file_url(repo, path, revision or "main", env)
    headers = {"user-agent": "seawall"} | ({"authorization": f"Bearer {token(env)}"} if token(env) else {})

    def ask() -> bytes | None:
        timeout = httpx2.Timeout(ANSWER_S, connect=CONNECT_S)
        with (
            httpx2.Client(
                follow_redirects=True, max_redirects=8, timeout=timeout, trust_env=not near(url)
            ) as http,
            http.stream("GET", url, headers=headers) as response,
        ):
            if response.headers.get("x-error-code") == "EntryNotFound":
                return None
            response.raise_for_status()
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > limit:
                    raise SourceError(f"{repo}/{path} is larger than {limit >> 20} MiB.", "Is this a model?")
            return bytes(body)

    found: bytes | None = _asked(ask, repo, revision, env, sleep)
    return found


def _asked(
    ask: Callable[[], Any], repo: str, revision: str | None, env: Mapping[str, str], sleep: SleepFor
) -> Any:
    if env.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise SourceError(
            f"HF_HUB_OFFLINE is set, and {repo} is not on this machine.", f"Unset it, or: {_ELSEWHERE}"
        )
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except SeawallError:
            raise
        except Exception as e:  # of the client and of whichever HTTP library it speaks through
            last, wait = e, _wait(e)
            cause = _cause(e, repo, revision, env)
            if cause is not None:
                raise cause from None
        if attempt >= (ATTEMPTS if _response(last) is not None else ASKED_AGAIN):
            break
        sleep(min(MAX_WAIT_S, wait if wait is not None else 0.3 * 2.0**attempt))
    raise _absent(last, repo, env) from None


def _cause(e: Exception, repo: str, revision: str | None, env: Mapping[str, str]) -> SeawallError | None:
    """The reason why asking again is no use; None when it may help."""
    names = {c.__name__ for c in type(e).__mro__}
    response = _response(e)
    status = response.status_code if response is not None else None
    said = (response.headers.get("x-error-code") or "") if response is not None else ""
    if "GatedRepoError" in names or said == "GatedRepo":
        return SourceError(
            f"{repo} is gated.",
            "Accept its licence on its page, and set HF_TOKEN to a token of that account.",
        )
    if "RevisionNotFoundError" in names or said == "RevisionNotFound":
        return InputError(f"{repo} has no revision {revision!r}.", "Name a commit, tag or branch.")
    if (
        names & {"RepositoryNotFoundError", "HFValidationError"}
        or said == "RepoNotFound"
        or status in (401, 404)
    ):
        return InputError(
            f"{repo} is not on the hub ({_host(env)}), or is private.",
            "Check the spelling; for a private one set HF_TOKEN.",
        )
    if "TooManyRedirects" in names:
        return SourceError(f"{_host(env)} sends {repo} round in a circle of redirects.", _ELSEWHERE)
    if status is not None and status < 500 and status not in (408, 425, 429):
        return SourceError(f"{_host(env)} did not give {repo} (HTTP {status}).", _ELSEWHERE)
    if not names & {"HTTPError", "TransportError", "HfHubHTTPError", "OSError", "TimeoutError"}:
        return SourceError(
            f"{_host(env)} gave something for {repo} that is not the hub's ({of_kind(e)}).",
            "Is a proxy or a login page in between? " + _ELSEWHERE,
        )
    return None


def _absent(e: Exception, repo: str, env: Mapping[str, str]) -> SourceError:
    response = _response(e)
    if response is not None:
        what = "asks to come back later" if response.status_code == 429 else "fails"
        return SourceError(
            f"{_host(env)} {what} (HTTP {response.status_code}); {repo} was asked for {ATTEMPTS} times.",
            "Wait a while; a token (HF_TOKEN) is allowed more. " + _ELSEWHERE,
        )
    why = "it does not answer in time" if "Timeout" in type(e).__name__ else _plain(e)
    return SourceError(
        f"{_host(env)} cannot be reached for {repo}: {why}.", "Check the network. " + _ELSEWHERE
    )


def _plain(e: Exception) -> str:
    """The system's words: `Name or service not known`, `Connection refused`."""
    text = re.sub(r"^\[Errno -?\d+\]\s*|\[SSL[^\]]*\]\s*", "", str(e)).strip().rstrip(".")
    return f"{text or of_kind(e):.160}"


def _response(e: Exception) -> Any:
    return getattr(e, "response", None)


def _wait(e: Exception) -> float | None:
    response = _response(e)
    after = response.headers.get("retry-after", "") if response is not None else ""
    return float(after[:9]) if after.strip().isdigit() else None


def _host(env: Mapping[str, str]) -> str:
    parts = urlsplit(endpoint(env))
    return parts.netloc.rpartition("@")[2] or endpoint(env)
