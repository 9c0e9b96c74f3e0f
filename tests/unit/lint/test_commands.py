"""What a vLLM command is and of which version: argv[0], Python's module, a shell's script, an image's entrypoint."""

from __future__ import annotations

import pytest

from seawall.lint.command import Command, read_command
from seawall.lint.image import image_version, is_stand_in, is_vllm_image
from seawall.lint.node import parse
from seawall.lint.run import Options, lint_text
from seawall.lint.shell import words


def command(text: str) -> Command | None:
    return read_command(next(parse(text, "container.yaml")))


@pytest.mark.parametrize(
    ("text", "entry", "model"),
    [
        ("{image: acme/llm:1, command: [vllm, serve, org/m]}", "serve", "org/m"),
        ("{image: acme/llm:1, command: [/opt/venv/bin/vllm, serve, org/m]}", "serve", "org/m"),
        ("{image: acme/llm:1, command: [tini, --, vllm, serve, org/m]}", "serve", "org/m"),
        ("{image: acme/llm:1, command: [uv, run, vllm, serve, org/m]}", "serve", "org/m"),
        (
            "{image: acme/llm:1, command: [python3, -u, -m, vllm.entrypoints.openai.api_server]}",
            "module",
            None,
        ),
        ("{image: acme/llm:1, command: ['vllm serve org/m --port 8000']}", "serve", "org/m"),
        ("{image: acme/llm:1, command: vllm serve org/m}", "serve", "org/m"),
        ("{image: acme/llm:1, command: [bash, -lc, 'source /x; exec vllm serve org/m']}", "serve", "org/m"),
        (
            "{image: acme/llm:1, command: [sh, -c], args: ['python3 -m vllm.entrypoints.openai.api_server']}",
            "module",
            None,
        ),
        (
            "{image: acme/llm:1, command: [/bin/bash, -lc, --], args: ['ulimit -n 9; $RAY; vllm serve org/m']}",
            "serve",
            "org/m",
        ),
        ("{image: acme/llm:1, command: [sh, -c, 'python3 -m dynamo.vllm --model org/m']}", "dynamo", None),
        ("{image: 'vllm/vllm-openai:v0.20.0', args: [org/m]}", "image", "org/m"),
        ("{image: 'vllm/vllm-openai:v0.20.0', args: ['--model=org/m --port 8000']}", "image", None),
    ],
)
def test_what_starts_vllm(text: str, entry: str, model: str | None) -> None:
    found = command(text)
    assert found is not None
    assert found.entry == entry
    assert (found.positional[0][0] if found.positional else None) == model


@pytest.mark.parametrize(
    "text",
    [
        "{image: acme/bench:1, command: [aiperf, --backend, vllm, serve]}",
        "{image: 'vllm/vllm-openai:v0.20.0', command: [vllm, bench, serve, --model, org/m]}",
        "{image: 'vllm/vllm-openai:v0.20.0', command: [python3, benchmark_serving.py, --backend, vllm]}",
        "{image: 'vllm/vllm-openai:v0.20.0', command: [sleep, infinity]}",
        "{image: 'vllm/vllm-openai:v0.20.0', command: [bash, -c, 'ray start --address=$LEADER --block']}",
        "{image: acme/wait:1, command: [sh, -c, 'echo waiting for vllm serve to come up; sleep 5']}",
        "{image: aibrix/runtime:v0.3.0, command: [aibrix_runtime, --port, '8080']}",
        "{image: aibrix/vllm-mock:nightly, command: [python3, app.py]}",
        "{image: 'vllm/vllm-omni:v0.12.0', command: [vllm, serve, org/image-model, --omni]}",
        "{image: 'ghcr.io/llm-d/llm-d-inference-sim:v0.5.0', args: [--model, org/m]}",
        "{image: lmcache/lmstack-router:v1, args: [--service-discovery, k8s]}",
        "{image: acme/side:1, args: [--engine, vllm]}",
    ],
)
def test_what_does_not(text: str) -> None:
    assert command(text) is None


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.17.1", (0, 17)),
        ("vllm/vllm-openai:0.32.0-cu130", (0, 32)),
        ("registry.example/aibrix/vllm-openai:aibrix-kvcache-v0.8.5-20250430", (0, 8)),
        ("registry.example/aibrix/vllm-openai:v0.9.2-cu128-nixl-v0.4.1-lmcache-0.3.1.post1", (0, 9)),
        ("rocm/vllm:rocm6.2_mi300_ubuntu20.04_py3.9_vllm_0.6.4", (0, 6)),
        ("rocm/vllm:rocm6.3.1_instinct_vllm0.8.3_20250410", (0, 8)),
        ("acme/serving:vllm-0.19.0", (0, 19)),
        ("public.ecr.aws/deep-learning-containers/vllm:0.11.2-gpu-py312-cu129", (0, 11)),
        ("quay.io/ascend/vllm-ascend:v0.9.1rc1", (0, 9)),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai", None),
        ("vllm/vllm-openai@sha256:" + "0" * 64, None),
        ("nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.7.0", None),
        ("lmcache/vllm-openai:v0.3.9", None),
        ("ghcr.io/llm-d/llm-d-cuda:v0.3.0", None),
        ("nvcr.io/nvidia/vllm:25.10-py3", None),
        ("vllm/vllm-openai:nightly-20260101", None),
        ("acme/llm:0.9.1", None),
    ],
)
def test_the_version_that_a_tag_carries(image: str, version: tuple[int, int] | None) -> None:
    assert image_version(image) == version


def test_names_of_the_server_and_of_its_stand_ins() -> None:
    assert all(
        is_vllm_image(i) for i in ("vllm/vllm-openai:v1", "rocm/vllm:x", "acme/rhaiis/vllm-cuda-rhel9:3")
    )
    assert not any(
        is_vllm_image(i) for i in ("vllm/vllm-router:v1", "vllm/vllm-omni:v1", "nginx", "vllmops/ui")
    )
    assert all(is_stand_in(i) for i in ("aibrix/vllm-mock:1", "x/vllm-simulator", "vllm/vllm-omni:v0.1"))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("vllm serve m --a 1 \\\n  --b 'x y' # why\n", ["vllm", "serve", "m", "--a", "1", "--b", "x y"]),
        ("vllm serve m --a '{\"k\":\n 1}' 2>&1 | tee /log", ["vllm", "serve", "m", "--a", '{"k":\n 1}']),
        ("vllm serve m && echo done", ["vllm", "serve", "m"]),
        ('vllm serve "$MODEL" --x="a b" > /log 2>&1 &', ["vllm", "serve", "$MODEL", "--x=a b"]),
        ("vllm serve m --n $(nproc --all) --y", ["vllm", "serve", "m", "--n", "$(nproc --all)", "--y"]),
        ('vllm serve m --j "{\\"a\\": 1}"', ["vllm", "serve", "m", "--j", '{"a": 1}']),
    ],
)
def test_words_as_the_shell_cuts_them(script: str, expected: list[str]) -> None:
    assert [w.text for w in words(script, 0)] == expected


def test_words_that_the_shell_fills_in_are_unknown() -> None:
    assert [w.open for w in words("""x $A "b$C" '$D' `e` f""", 0)] == [False, True, True, False, True, False]


def test_a_version_that_is_told_makes_findings_certain() -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n"
        "  - {name: e, image: 'vllm/vllm-openai:latest', args: [/m, --swap-space=4]}\n"
    )

    def severities(options: Options) -> list[str]:
        return [
            f.severity for f in lint_text(text, options=options).findings if f.rule == "engine/removed-flag"
        ]

    assert severities(Options()) == ["warning"]
    assert severities(Options(engine=(0, 20))) == ["error"]
    assert severities(Options(engine=(0, 10))) == []


@pytest.mark.parametrize(
    ("script", "is_open"),
    [
        ('vllm serve "${ARGS[@]}"', True),
        ("vllm serve $VLLM_ARGS", True),
        ("vllm serve $MODEL --port 8000", False),
        ("vllm serve org/m $EXTRA", True),
        ('vllm serve org/m "$@"', True),
        ("python3 -m vllm.entrypoints.openai.api_server --model org/m $EXTRA", True),
    ],
)
def test_words_that_come_from_variables_leave_a_command_open(script: str, is_open: bool) -> None:
    found = command(f"{{image: x, command: [sh, -c], args: ['{script}']}}")
    assert found is not None
    assert found.is_open == is_open


def test_a_shell_behind_an_init_and_a_second_engine_are_seen() -> None:
    found = command(
        "{image: x, command: [tini, --, bash, -c, 'vllm serve a --port 1 & vllm serve b --port 2; wait']}"
    )
    assert found is not None
    assert (found.positional[0][0], found.several) == ("a", True)


@pytest.mark.parametrize("size", [".inf", ".nan", "1e400", "'x'", "-1", "[]"])
def test_odd_numbers_break_nothing(size: str) -> None:
    text = (
        "apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nmetadata: {name: x}\nspec:\n"
        f"  leaderWorkerTemplate:\n    size: {size}\n    workerTemplate:\n      spec:\n        containers:\n"
        "        - {name: e, image: 'vllm/vllm-openai:v0.20.0', args: [/m, --tensor-parallel-size=2],\n"
        f"           resources: {{limits: {{nvidia.com/gpu: {size}}}}}}}\n"
    )
    assert lint_text(text).workloads == 1


@pytest.mark.parametrize("role", ["worker", "leader"])
def test_the_workers_script_is_no_server(role: str, options: Options) -> None:
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: one}}
spec:
  containers:
  - name: ray
    image: registry.example/ray-vllm:v0.9.1
    command: [sh, -c, "/vllm-workspace/ray_init.sh {role} --ray_address=$(LWS_LEADER_ADDRESS)"]
    resources: {{limits: {{nvidia.com/gpu: "8"}}}}
"""
    assert bool(lint_text(text, "pod.yaml", options).findings) == (role == "leader")
