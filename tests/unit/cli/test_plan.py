"""`seawall plan` as it is typed: a spec or flags in, a decision with its reason out, in under a second."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from seawall.cli.plan import command
from seawall.cli.plan_table import table
from seawall.config.load import load_fleets
from seawall.decide.plan import plan
from seawall.domain.catalog.gpus import GPUS, find_gpu
from seawall.errors import InputError
from seawall.shapes.config import resolve

ROOT = Path(__file__).parents[3]
LLAMA = ["--model-config", "meta-llama/Llama-3.1-8B"]


def run(*args: str) -> Result:
    return CliRunner().invoke(command, list(args), catch_exceptions=False)


def test_the_decision_comes_first_and_the_next_command_last() -> None:
    result = run(str(ROOT / "examples/smollm2.yaml"))
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[2].startswith("  fits     the CPU")
    spec = f"{ROOT}/examples/smollm2.yaml"
    assert lines[-1] == f"Next: seawall up {spec}   (for a cluster: seawall render {spec} -o deploy/)"
    assert "per GPU" not in result.output, "there is none"
    assert "\x1b" not in result.output


def test_a_hubs_address_is_as_good_as_the_id_in_it() -> None:
    told, plain = run("hf://Qwen/Qwen3-0.6B@main", "--json"), run("Qwen/Qwen3-0.6B", "--json")
    assert told.exit_code == 0 and told.output == plain.output


def test_json_has_the_promised_keys() -> None:
    result = run(*LLAMA, "--gpu", "H100-80GB", "--gpus", "1", "--json")
    (data,) = json.loads(result.output)["plans"]
    keys = (
        "fits reason tensor_parallel gpus_per_replica weights_gib_per_gpu kv_cache_gib_per_gpu kv_cache_tokens "
        "kv_bytes_per_token max_concurrency max_model_len_limit startup_budget_s usd_per_hour usd_per_million_tokens"
    )
    assert set(keys.split()) <= set(data)
    page = (ROOT / "docs/reference/plan-json.md").read_text()
    assert [k for k in data if f"`{k}`" not in page] == []


def test_what_does_not_fit_is_exit_code_1_with_a_cure() -> None:
    result = run("--model-config", "meta-llama/Llama-3.1-70B", "--gpu", "H100-80GB", "--gpus", "1")
    assert result.exit_code == 1
    assert "  no       1 x H100-80GB" in result.output
    assert "weights alone take 131.4 GiB of 79.2 GiB per GPU; take more or larger GPUs" in result.output


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "give a Fleet file or --model-config"),
        (["--model-config", "no/such-model"], "neither a file nor a model"),
        ([*LLAMA, "--gpu", "H1000"], "is not a GPU that is known here"),
        ([*LLAMA, "--kv-cache-dtype", "int3"], "--kv-cache-dtype"),
        ([*LLAMA, "--gpus", "3", "-tp", "2"], "gpusPerReplica: 3 is not"),
        ([str(ROOT / "examples/smollm2.yaml"), "--gpus", "2"], "--gpus goes with --model-config"),
        ([str(ROOT / "examples/smollm2.yaml"), "--fleet", "x"], "holds no fleet named 'x'"),
        ([*LLAMA, "--prices", str(ROOT / "examples/smollm2.yaml")], "is not a price file"),
        ([*LLAMA, "--calibration", str(ROOT / "examples/smollm2.yaml")], "is not JSON"),
    ],
)
def test_bad_input_is_told_what_to_do(args: list[str], says: str) -> None:
    with pytest.raises(InputError) as e:
        run(*args)
    assert says in e.value.message


def test_prices_and_measured_times_replace_the_built_in_ones(tmp_path: Path) -> None:
    prices, measured = tmp_path / "prices.yaml", tmp_path / "calibration.json"
    prices.write_text("as_of: 2026-11-01\ngpus: {NVIDIA-H100-80GB-HBM3: 2.0}\n")
    times = {
        "base_s": 0.01,
        "prefill_token_s": 1e-5,
        "decode_seq_s": 1e-5,
        "weight_read_s": 0.005,
        "kv_token_s": 1e-9,
    }
    measured.write_text(json.dumps({**times, "source": "seawall bench, 2026-11-20", "gpu": "H100"}))
    args = [*LLAMA, "--gpu", "H100-80GB", "--gpus", "1", "--json"]
    (data,) = json.loads(run(*args, "--prices", str(prices), "--calibration", str(measured)).output)["plans"]
    assert data["usd_per_hour"] == 2.0 and data["prices_as_of"] == "2026-11-01"
    assert data["timing"]["base_s"] == 0.01
    assert any("seawall bench, 2026-11-20" in n for n in data["notes"])


@pytest.mark.parametrize(
    ("spelling", "name", "gib"),
    [
        ("NVIDIA-H100-80GB-HBM3", "H100-80GB", 79.19),
        ("H100-80GB-SXM", "H100-80GB", 79.19),
        ("h100", "H100-80GB", 79.19),
        ("H100-NVL-94GB", "H100-NVL", 93.11),
        ("NVIDIA-A100-SXM4-40GB", "A100-40GB", 39.5),
        ("A100 80GB", "A100-80GB", 79.25),
        ("RTX 3090", "RTX-3090", 23.58),
        ("RTX A6000 48GB", "RTX-A6000", 47.4),
        ("L40S-48GB", "L40S", 44.31),
        ("RTX PRO 6000 Blackwell 96GB", "RTX-PRO-6000", 94.97),
        ("H20-3e-141GB", "H20-3e", 139.72),
        ("H200-141GB (assumed: only a 141 GB part can hold this)", "H200", 139.81),
        ("A10-24GB", "A10", 22.06),
        ("A10G-24GB", "A10G", 22.3),
        ("RTX 5070 Ti 16GB + RTX 5090 D 32GB", "RTX-5070-Ti", 15.47),
        ("DGX Spark GB10 128GB unified (inferred)", "GB10", 121.69),
        ("Tesla T4", "T4", 14.74),
        ("T4-16GB", "T4", 14.74),
        ("A100-40GB MIG 1g.5gb", "A100-40GB-MIG-1g.5gb", 4.75),
        ("RTX 4070 Laptop 8GB", "RTX-4070-8GB", 7.64),
        ("NVIDIA-H100-80GB-HBM3-SHARED", "H100-80GB", 79.19),
        ("V100-32GB (inferred: capability < 8)", "V100-32GB", 31.74),
        ("80 GB GPU (79.15 GiB; A100/H100)", "80 GB GPU", 79.15),
        ("24 GB RTX (23.7 GiB; 3090/4090 class)", "24 GB RTX", 23.7),
        ("unknown 80 GB class (HPC node, CUDA 12.8)", "unknown 80 GB class", 78.0),
        ("RTX 4060 8GB", "RTX-4060", 7.63),
    ],
)
def test_gpus_are_known_by_every_name_people_give_them(spelling: str, name: str, gib: float) -> None:
    gpu = find_gpu(spelling)
    assert gpu is not None
    assert (gpu.name, gpu.memory_gib) == (name, pytest.approx(gib, abs=0.01))


def test_every_catalogue_name_and_label_finds_itself() -> None:
    for gpu in GPUS:
        for name in (gpu.name, *gpu.labels):
            assert find_gpu(name) is gpu, name
    assert find_gpu("a potato") is None


def test_the_process_imports_nothing_it_does_not_need() -> None:
    code = (
        "import sys; from seawall.cli.plan import command\n"
        "try: command(['--model-config', 'Qwen/Qwen3-8B', '--gpu', 'L40S', '--json'])\nexcept SystemExit: pass\n"
        "print(sorted(m for m in ('huggingface_hub','numpy','rich','httpx2','asyncio') if m in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]"), out[-200:]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("spec", ["smollm2", "llama-70b-fp8-h200"])
def test_a_narrow_terminal_breaks_no_word_and_loses_none(spec: str, width: int) -> None:
    path = f"examples/{spec}.yaml"
    fleet = load_fleets(path)[0]
    made = plan(fleet, resolve(fleet, offline=True))
    folded, whole = table(made, path, False, width), table(made, path, False)
    assert max(map(len, folded.splitlines())) <= width
    assert folded.split() == whole.split()


def test_any_asks_every_gpu_of_the_catalogue_and_answers_in_one_line_each() -> None:
    result = run("meta-llama/Llama-3.1-8B-Instruct", "--gpus", "any", "--max-model-len", "16384")
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "meta-llama/Llama-3.1-8B-Instruct   bfloat16   8.0 billion parameters"
    assert lines[2].split() == [
        "GPUs",
        "context",
        "requests",
        "tokens/s",
        "first",
        "each",
        "$/h",
        "$/M",
        "tokens",
    ]
    rows = lines[3 : lines.index("", 3)]
    cells = [[c for c in row.split("  ") if c.strip()] for row in rows]
    priced = [float(c[6]) for c in cells if len(c) == 8]
    assert priced == sorted(priced) and len(priced) > 10
    assert all(row.count(" x ") == 1 and "16,384" in row for row in rows)
    named = " ".join(lines)
    assert all(gpu.name in named for gpu in GPUS)
    assert lines[-1].startswith("Next: seawall plan meta-llama/Llama-3.1-8B-Instruct --gpu ")


def test_any_as_json_is_a_plan_for_every_gpu() -> None:
    data = json.loads(run("Qwen/Qwen3-0.6B", "--gpus", "any", "--json").output)["plans"]
    assert {p["gpu"] for p in data} == {g.name for g in GPUS}
    order = [p["verdict"] for p in data]
    assert order == sorted(
        order, key=lambda v: ["fits", "tight", "unknown"].index(v) if v in ("fits", "tight", "unknown") else 3
    )


def test_any_is_narrow_on_a_narrow_terminal() -> None:
    from seawall.cli.plan_survey import survey_table
    from seawall.config.plan_flags import PlanFlags, from_flags
    from seawall.decide.plan.survey import survey

    fleet, model = from_flags(PlanFlags(model_config="deepseek-ai/DeepSeek-V3"))
    text = survey_table(survey(fleet, model), 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "only over more than 2 nodes: " in " ".join(text.split())


def test_a_model_s_id_stands_where_a_file_would() -> None:
    by_id = run("meta-llama/Llama-3.1-8B", "--gpu", "H100-80GB", "--gpus", "1", "--json").output
    assert by_id == run(*LLAMA, "--gpu", "H100-80GB", "--gpus", "1", "--json").output
    with pytest.raises(InputError, match=r"missing\.yaml"):
        run("missing.yaml", "--gpus", "any")
    with pytest.raises(InputError, match="--gpu L4 and --gpus any"):
        run("meta-llama/Llama-3.1-8B", "--gpu", "L4", "--gpus", "any")


def test_how_sure_the_plan_is_stands_below_what_it_holds() -> None:
    sure = run(*LLAMA, "--gpu", "H100-80GB", "--gpus", "1", "--vllm-version", "0.19.0").output
    assert "  sure     within 5" in sure and "unsure by" not in sure
    forked = run(*LLAMA, "--gpu", "H100-80GB", "--gpus", "1", "--vllm-version", "0.32.0 (fork)").output
    assert "unsure by 2.4 GiB: a fork or development build" in forked


def test_what_was_planned_for_a_model_is_written_as_a_fleet_that_plans_alike(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    args = ["meta-llama/Llama-3.1-70B", "--gpu", "H100-80GB", "--max-model-len", "16384"]
    said = run(*args, "--write", str(file))
    assert said.output.rstrip().endswith(f"Next: seawall pull {file} --lock-only"), said.output
    assert said.output.count("Next:") == 1
    (first,) = json.loads(run(*args, "--json").output)["plans"]
    (again,) = json.loads(run(str(file), "--offline", "--json").output)["plans"]
    same = ("gpu", "gpus_per_replica", "tensor_parallel", "max_model_len", "kv_cache_tokens", "weights_bytes")
    assert {k: first[k] for k in same} == {k: again[k] for k in same}
    with pytest.raises(InputError, match="is there already"):
        run(*args, "--write", str(file))
    with pytest.raises(InputError, match="one planned model"):
        run(str(file), "--write", str(tmp_path / "other.yaml"))
