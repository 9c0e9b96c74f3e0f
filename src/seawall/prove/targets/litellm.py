"""LiteLLM's proxy, from PyPI, by its page on production."""

from __future__ import annotations

from pathlib import Path

import yaml

from seawall.prove.targets.adapter import Need, TargetAdapter, TargetPlace
from seawall.prove.targets.install import from_pypi

PACKAGE = "litellm[proxy]==1.108.7"


class Litellm(TargetAdapter):
    name = "litellm"
    title = "LiteLLM proxy"
    source = f"PyPI {PACKAGE}"
    can = frozenset({Need.PROCESS})
    start_s = 150.0
    settings = (
        "its page on production: request_timeout 600, LITELLM_LOG=ERROR, json_logs, no debugging; no database and no "
        "keys (nothing here needs them)",
        "provider hosted_vllm, one entry of model_list for each engine, least-busy, num_retries 3",
        "one worker process; 1.110 needs a package that is in no registry yet, so 1.108.7",
        "its list of engines changes with a restart, or with a database that is not here",
    )

    def install(self) -> Path | None:
        return from_pypi(self.name, PACKAGE, "litellm")

    def version(self, program: Path | None) -> str:
        return PACKAGE.rpartition("==")[2]

    def files(self, place: TargetPlace) -> dict[str, str]:
        model = place.names[0]
        rows = [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"hosted_vllm/{model}",
                    "api_base": f"{url}/v1",
                    "api_key": "none",
                },
            }
            for url in place.engines
            for name in place.names
        ]
        document = {
            "model_list": rows,
            "litellm_settings": {"request_timeout": 600, "set_verbose": False, "json_logs": True},
            "router_settings": {"routing_strategy": "least-busy", "num_retries": 3},
        }
        return {"config.yaml": yaml.safe_dump(document, sort_keys=False)}

    def argv(self, place: TargetPlace) -> list[str]:
        argv = [str(place.program), "--config", str(place.folder / "config.yaml"), "--host", "127.0.0.1"]
        return [*argv, "--port", str(place.port), "--num_workers", "1"]

    def env(self, place: TargetPlace) -> dict[str, str]:
        unset = "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"
        return {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", unset: "true"}
