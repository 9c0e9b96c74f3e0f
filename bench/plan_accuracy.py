"""How near the planner comes to vLLM's own start-up logs, and how often it is right about how sure it is.

Replays recorded runs (one JSON object per line) through the code path of `seawall plan --model-config`. Prints per
run and in sum the error of weights, KV cache GiB and KV tokens, whether the forecast's range held, and how the verdict
agrees with what happened. Fields that a run lists under `inferred` are not scored; null means "not printed".

    python bench/plan_accuracy.py FOLDER|RUNS.jsonl [--models models.json] [--configs model_configs/] [--json]

FOLDER holds `*runs*.jsonl`, and perhaps `models.json` and `model_configs/ORG--NAME/config.json`; a published config
wins over a summary. The peer is vLLM itself. With `--leave-out PART` runs whose model contains PART are left out.
The ranges' widths are checked with every family of models left out in turn: the factor that the other families would
give them, and how many runs of the family it then holds.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seawall.config.plan_flags import PlanFlags, from_flags
from seawall.decide.plan import plan
from seawall.domain.action import Plan
from seawall.domain.catalog.models import find_config
from seawall.errors import InputError

Run = dict[str, Any]
FORMAT = re.compile(r"(?i)(nvfp4|mxfp4|fp8|awq|gptq|int4|int8)$")


@dataclass
class Result:
    """One run beside its forecast. Errors are relative; None: not logged, or not to be scored."""

    run: Run
    plan: Plan | None
    why: str = ""
    weights: float | None = None
    kv_gib: float | None = None
    tokens: float | None = None
    family: str = ""

    @property
    def stretch(self) -> float | None:
        """The cache's error in units of the forecast's half-width: 1 lies on the edge. None: not logged."""
        actual = self.run.get("kv_cache_gib_per_gpu")
        if self.plan is None or actual is None or "kv_cache_gib_per_gpu" in self.run.get("inferred", ()):
            return None
        if self.run.get("gpu_memory_utilization") is None:
            return None  # the flag that decides most was not recorded
        low, high = self.plan.kv_cache_gib_range
        half = max((high - low) / 2, high - self.plan.kv_cache_gib_per_gpu, 1e-6)
        return abs(self.plan.kv_cache_gib_per_gpu - max(0.0, actual)) / half

    @property
    def covered(self) -> bool | None:
        """vLLM's tokens lie in the range that the plan gave, or within 5% of it. None: not logged."""
        if self.plan is None or self.tokens is None:
            return None
        low, high = self.plan.kv_cache_tokens_range
        return low <= self.run["kv_cache_tokens"] <= high or abs(self.tokens) <= 0.05

    @property
    def sure(self) -> bool:
        """The forecast's range of tokens is within 5% of it: the plan does not say that it is unsure."""
        if self.plan is None or self.plan.verdict not in ("fits", "refused"):
            return False
        return self.plan.kv_cache_tokens_range[1] <= 1.05 * self.plan.kv_cache_tokens

    @property
    def predicted(self) -> str:
        return "unplanned" if self.plan is None else self.plan.verdict


@dataclass(frozen=True)
class Shapes:
    """Where the configs of recorded models are."""

    models: dict[str, Any]
    configs: Path | None
    scratch: Path

    def of(self, model: str) -> Path | str:
        """A path to plan from, or why there is none. A published config wins over a remembered summary."""
        names = [model.replace("/", "--"), "*--" + model.split("/")[-1]]  # people leave out whose copy it was
        for name in names if self.configs is not None else ():
            if found := sorted(self.configs.glob(f"{name}/config.json")):
                return found[0].parent
        relative = self._relative(model)
        if relative is not None and FORMAT.search(relative.name):
            return relative
        summary, known = self.models.get(model), find_config(model.split(" (")[0])
        if summary is None and known is None:
            return relative or "no config of this model"
        filled = {
            **(known[1] if known else {}),
            **{k: v for k, v in (summary or {}).items() if v is not None},
        }
        if not filled.get("hidden_size") and "text_config" not in filled:
            return "the model's config is incomplete"
        path = self.scratch / f"{model.replace('/', '--').replace(' ', '_')[:150]}.json"
        path.write_text(json.dumps({**filled, "_name_or_path": model}))
        return path

    def _relative(self, model: str) -> Path | None:
        """The published config of the checkpoint that a copy's name begins with (`someone/MODEL-NVFP4-MTP`): as good as
        its own where the format is in the name, else better than nothing."""
        tail = model.split("/")[-1]
        folders = sorted(self.configs.iterdir(), key=lambda p: -len(p.name)) if self.configs else []
        return next((p for p in folders if tail.startswith(p.name.split("--")[-1] + "-")), None)


def replay(run: Run, shapes: Shapes) -> Result:
    """Plan one run from its flags, as the command line would."""
    if not run.get("gpu"):
        return Result(run, None, "the log names no GPU")
    config = shapes.of(run["model"])
    if isinstance(config, str):
        return Result(run, None, config)
    notes = run.get("notes") or ""
    args: tuple[str, ...] = ()
    if offload := re.search(r"--cpu-offload-gb[= ](\d+)", notes):
        args += ("--cpu-offload-gb", offload[1])
    if "MTP adds one more layer" in notes:  # the log's own flag is not in the record
        args += ("--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}')
    elif "EAGLE drafter" in notes:
        args += (
            "--speculative-config",
            '{"method": "eagle", "num_speculative_tokens": 1, "model": "not on record"}',
        )
    flags = PlanFlags(
        model_config=str(config),
        gpu=run["gpu"],
        tensor_parallel=run.get("tp") or run.get("gpu_count") or 1,
        pipeline_parallel=run.get("pp") or 1,
        data_parallel=run.get("dp") or 1,
        expert_parallel=bool(run.get("ep")),
        decode_context_parallel=run.get("dcp"),
        max_model_len=run.get("max_model_len"),
        gpu_memory_utilization=run.get("gpu_memory_utilization"),
        max_num_seqs=run.get("max_num_seqs"),
        max_num_batched_tokens=run.get("max_num_batched_tokens"),
        kv_cache_dtype=(run.get("kv_cache_dtype") or "auto").split(" (")[0],
        quantization=run.get("quantization"),
        dtype=run.get("dtype"),
        enforce_eager=bool(run.get("enforce_eager")),
        vllm_version=run.get("vllm_version") or "not stated",
        vllm_args=args,
    )
    try:
        fleet, model = from_flags(flags)
        made = plan(fleet, model, shorten=False)
    except InputError as e:
        return Result(run, None, e.message)
    return _score(Result(run, made, family=family_of(model.architecture)))


def family_of(architecture: str) -> str:
    """`qwen3_5_moe` -> `qwen`: what is left out together."""
    return re.split(r"[\d_-]", architecture.removeprefix("kimi").lstrip("_") or "kimi")[0] or architecture


def _score(r: Result) -> Result:
    assert r.plan is not None
    r.weights = _error(r.run, "weights_gib_per_gpu", r.plan.weights_gib_per_gpu)
    r.kv_gib = _error(r.run, "kv_cache_gib_per_gpu", r.plan.kv_cache_gib_per_gpu)
    r.tokens = _error(r.run, "kv_cache_tokens", r.plan.kv_cache_tokens)
    return r


def _error(run: Run, key: str, forecast: float) -> float | None:
    actual = run.get(key)
    if actual is None or actual <= 0 or key in run.get("inferred", ()):
        return None
    return forecast / actual - 1


def fully_logged(run: Run) -> bool:
    """Weights, activation, KV GiB and tokens were all printed."""
    keys = ("weights_gib_per_gpu", "activation_peak_gib", "kv_cache_gib_per_gpu", "kv_cache_tokens")
    return all(run.get(k) is not None and k not in run.get("inferred", ()) for k in keys)


def told(result: Result) -> bool:
    """The flags that decide most are on record: a released version, a GPU of the catalogue, the utilization."""
    run, known = result.run, result.plan
    decisive = {"vllm_version", "gpu", "gpu_memory_utilization", "model", "tp"} & set(run.get("inferred", ()))
    released = re.fullmatch(r"\d+\.\d+\.\d+", run.get("vllm_version") or "")
    guessed = known is None or any("not in the catalogue" in why for why in known.unsure)
    return bool(released) and not decisive and not guessed and run.get("gpu_memory_utilization") is not None


def summary(results: list[Result]) -> dict[str, Any]:
    """Errors and the confusion table, by run and with every model counting once."""
    out: dict[str, Any] = {"runs": len(results), "planned": sum(r.plan is not None for r in results)}
    for name in ("weights", "kv_gib", "tokens"):
        for label, chosen in (("", results), ("_full_logs", [r for r in results if fully_logged(r.run)])):
            errors = [(r.run["model"], abs(getattr(r, name))) for r in chosen if getattr(r, name) is not None]
            out[name + label] = _statistics(errors)
    table: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for r in results:
        if r.plan is not None:
            table[r.run["outcome"]][r.predicted] += 1
    out["confusion"] = {k: dict(v) for k, v in table.items()}
    out["ranges"] = ranges(results)
    sure = [(r.run["model"], abs(r.tokens)) for r in results if r.tokens is not None and r.sure]
    out["tokens_sure"] = _statistics(sure)
    flags = [(r.run["model"], abs(r.tokens)) for r in results if r.tokens is not None and told(r)]
    out["tokens_told"] = _statistics(flags)
    out["tokens_covered"] = covered(results)
    out["false_fits"] = [r.run["id"] for r in results if r.predicted == "fits" and r.run["outcome"] != "fits"]
    out["false_refusals"] = [
        r.run["id"]
        for r in results
        if r.predicted in ("oom", "refused", "invalid") and r.run["outcome"] == "fits"
    ]
    return out


def covered(results: list[Result]) -> dict[str, Any]:
    """How many runs lie within 5% or in the range, of how many that are off the plan was unsure, and the rest."""
    logged = [r for r in results if r.covered is not None]
    off = [r for r in logged if r.tokens is not None and abs(r.tokens) > 0.05]
    return {
        "n": len(logged),
        "share": sum(bool(r.covered) for r in logged) / max(1, len(logged)),
        "off": len(off),
        "off_and_unsure": sum(not r.sure for r in off),
        "outside": [r.run["id"] for r in off if not r.covered],
    }


def ranges(results: list[Result]) -> dict[str, Any]:
    """How often the range held; and with each family left out: the factor that the others would widen or narrow all
    ranges by to hold 95% of their runs, and the share of the family's runs that such ranges hold."""
    scored = [(r.family, s) for r in results if (s := r.stretch) is not None]
    families = {}
    for family in sorted({f for f, _ in scored}):
        own = [s for f, s in scored if f == family]
        others = sorted(s for f, s in scored if f != family)
        factor = others[min(len(others) - 1, int(0.95 * len(others)))] if others else 1.0
        families[family] = {
            "runs": len(own),
            "held": sum(s <= 1 for s in own) / len(own),
            "factor": factor,
            "held_by_others": sum(s <= max(factor, 0.0) for s in own) / len(own),
        }
    held = [s <= 1 for _, s in scored]
    return {"runs": len(scored), "held": sum(held) / max(1, len(held)), "families": families}


def _statistics(errors: list[tuple[str, float]]) -> dict[str, float]:
    if not errors:
        return {"n": 0}
    by_model: dict[str, list[float]] = defaultdict(list)
    for model, e in errors:
        by_model[model].append(e)
    values = [e for _, e in errors]
    within = [e <= 0.05 for e in values]
    models_within = [statistics.fmean(float(e <= 0.05) for e in es) for es in by_model.values()]
    return {
        "n": len(values),
        "median": statistics.median(values),
        "worst": max(values),
        "within_5_percent": sum(within) / len(within),
        "models": len(by_model),
        "models_within_5_percent": statistics.fmean(models_within),
    }


def _percent(x: float | None) -> str:
    return "-" if x is None else f"{100 * x:+.1f}%"


def print_table(results: list[Result], total: dict[str, Any]) -> None:
    print(f"{'run':48} {'happened':12} {'forecast':10} {'weights':>8} {'KV GiB':>8} {'tokens':>8}")
    for r in results:
        full = "*" if fully_logged(r.run) else " "
        tail = f"  {r.why}" if r.plan is None else ""
        if r.plan is not None and (r.predicted == "fits") != (r.run["outcome"] == "fits"):
            tail = f"  {r.plan.reason[:110]}"
        print(
            f"{full}{r.run['id'][:47]:47} {r.run['outcome']:12} {r.predicted:10} {_percent(r.weights):>8} "
            f"{_percent(r.kv_gib):>8} {_percent(r.tokens):>8}{tail}"
        )
    print(f"\n{total['runs']} runs, {total['planned']} planned; * logs its memory fully. Absolute errors:")
    print(
        f"{'':28} {'n':>4} {'median':>8} {'worst':>8} {'<= 5%':>7} {'models':>7} {'<= 5%, each model once':>23}"
    )
    for name in (
        "weights",
        "kv_gib",
        "tokens",
        "tokens_sure",
        "tokens_told",
        "weights_full_logs",
        "kv_gib_full_logs",
        "tokens_full_logs",
    ):
        s = total[name]
        if s["n"]:
            print(
                f"{name:28} {s['n']:4} {100 * s['median']:7.2f}% {100 * s['worst']:7.1f}% "
                f"{100 * s['within_5_percent']:6.1f}% {s['models']:7} {100 * s['models_within_5_percent']:22.1f}%"
            )
    print("\ntokens_sure: the plan's own range is within 5%; the rest says why it is unsure.")
    print(
        "tokens_told: version, GPU and utilization are on record; the rest was planned with defaults for them."
    )
    c = total["tokens_covered"]
    print(f"\nTokens within 5% or in the plan's range: {100 * c['share']:.1f}% of {c['n']}.")
    print(f"{c['off']} are off by more than 5%; of {c['off_and_unsure']} the plan says why it is unsure.")
    print(f"Neither within 5% nor in the range: {', '.join(c['outside']) or 'none'}")
    held = total["ranges"]
    print(
        f"\nRange of KV GiB held in {100 * held['held']:.0f}% of {held['runs']} runs that log it with its utilization:"
    )
    print(f"{'family':12} {'runs':>5} {'held':>6} {'x others':>9} {'held then':>10}")
    for family, f in held["families"].items():
        print(
            f"{family:12} {f['runs']:5} {100 * f['held']:5.0f}% {f['factor']:9.2f} {100 * f['held_by_others']:9.0f}%"
        )
    columns = ["fits", "tight", "unknown", "refused", "oom", "invalid"]
    print(f"\n{'happened / forecast':20}" + "".join(f"{c:>9}" for c in columns))
    for outcome, row in sorted(total["confusion"].items()):
        print(f"{outcome:20}" + "".join(f"{row.get(c, 0):9}" for c in columns))
    print(f'\n"fits" for a run that died: {len(total["false_fits"])} {total["false_fits"]}')
    print(f"refused though it ran: {len(total['false_refusals'])} {total['false_refusals']}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="recorded runs, one JSON object a line, or their folder")
    parser.add_argument("--models", type=Path, help="default: models.json beside the runs")
    parser.add_argument("--configs", type=Path, help="default: model_configs beside the runs")
    parser.add_argument("--leave-out", default="", help="leave out models whose name contains this")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    data: Path = args.data
    files = sorted(data.glob("*runs*.jsonl")) if data.is_dir() else [data]
    folder = data if data.is_dir() else data.parent
    models = args.models or folder / "models.json"
    configs = args.configs or folder / "model_configs"
    runs = [json.loads(line) for f in files for line in f.read_text().splitlines() if line.strip()]
    if args.leave_out:
        runs = [r for r in runs if args.leave_out.lower() not in r["model"].lower()]
    with tempfile.TemporaryDirectory() as scratch:
        shapes = Shapes(
            json.loads(models.read_text()) if models.is_file() else {},
            configs if configs.is_dir() else None,
            Path(scratch),
        )
        results = [replay(run, shapes) for run in runs]
    total = summary(results)
    if args.json:
        print(json.dumps(total, indent=2))
    else:
        print_table(results, total)
    return 0


if __name__ == "__main__":
    sys.exit(main())
