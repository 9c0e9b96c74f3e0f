"""Before anything starts: is the port free, is there memory, is the engine installed, are the weights here?

Every "no" is one line with its cause and its cure. Downloads happen here, with progress, and only the first time.
"""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seawall.decide import scale
from seawall.decide.batch.planned import as_text, planned_speed
from seawall.decide.plan import plan
from seawall.decide.pool import cost_of, policy_of
from seawall.decide.replica import LifePolicy
from seawall.domain import switches
from seawall.domain.action import Plan
from seawall.domain.spec import Fleet
from seawall.domain.units import show_bytes
from seawall.drivers import cache
from seawall.drivers.process import NOT_ALLOWED, free_port, port_holder
from seawall.engines.vllm.command import weights_form
from seawall.errors import EngineError, InputError, SeawallError
from seawall.local import engine_env, gpus, model
from seawall.local.control import socket_path
from seawall.local.documents import Documents
from seawall.local.gpu_engine import gpu_vllm
from seawall.local.keeper import Care
from seawall.local.launch import ReplicaRecipe, is_cpu, sim_recipe, vllm_recipe
from seawall.local.pools import by_pool
from seawall.local.services import GatewayPlace
from seawall.local.supervisor import UpSetup, free_memory
from seawall.shapes.config import resolve

TellUser = Callable[[str], None]

ENGINE_BYTES = 2 * 2**30
"""Resident memory of one vLLM CPU replica without weights and KV cache: three processes of 0.6-0.7 GB."""
SIM_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the command line asks for."""

    specs: tuple[Path, ...]
    fleets: tuple[Fleet, ...]
    state_dir: Path
    cache: Path
    engine: str | None = None
    """The engine for every fleet, whatever its spec says; None: the spec's."""
    host: str = "127.0.0.1"
    port: int = 8000
    admin_port: int = 0
    startup_s: float = 900.0
    without: frozenset[str] = frozenset()
    """Mechanisms that a proof has switched off (domain.switches)."""


def prepare(wish: Wish, say: TellUser) -> UpSetup:
    """Checks, installs and downloads what is missing. SeawallError with the cure when something cannot be had."""
    check_keys(wish.fleets)
    check_port(wish.port)
    if wish.admin_port:
        check_port(wish.admin_port, "--admin-port")
    recipes = tuple(replace(recipe_of(f, wish, say), ready_s=math.ceil(wish.startup_s)) for f in wish.fleets)
    need = {r.fleet.name: _need(r) for r in recipes}
    check_memory(recipes, need, free_memory())
    devices = check_gpus(recipes, gpus.visible)
    drain = max(f.spec.rollout.drain for f in wish.fleets)
    documents = Documents(
        [p.absolute() for p in wish.specs],
        {r.fleet.name: r.plan for r in recipes},
        cache.make_private(wish.state_dir) / "fleets.yaml",
    )
    try:
        documents.write(wish.fleets)
    except OSError as e:
        raise EngineError(
            f"{documents.path} cannot be written: {e.strerror}.", "Make room, or use another --state-dir."
        ) from None
    place = GatewayPlace(
        specs=(documents.path,),
        discovery=wish.state_dir / "discovery.json",
        host=wish.host,
        port=wish.port or free_port(),
        admin_port=next(p for p in iter(free_port, None) if p != wish.admin_port),
        grace_s=drain,
        keeper=socket_path(wish.state_dir, "keeper.sock") if _keeps(wish.fleets) else None,
        batch_port=free_port() if (batch := any(f.spec.gateway.batch for f in wish.fleets)) else 0,
        batch_secret=secrets.token_hex(32) if batch else "",
        without=tuple(w for w in switches.GATEWAY if w in wish.without),
        planned=_speeds(recipes, wish) if batch else (),
        batch_without=tuple(w for w in switches.BATCH if w in wish.without),
    )
    care = Care(life=LifePolicy(startup_s=wish.startup_s), without=wish.without)
    return UpSetup(
        recipes=recipes, place=place, documents=documents, state_dir=wish.state_dir, care=care, need_bytes=need,
        gpus=devices, admin_port=wish.admin_port,
    )  # fmt: skip


def _speeds(recipes: Sequence[ReplicaRecipe], wish: Wish) -> tuple[str, ...]:
    """What the batch lane goes by until lines are measured. A simulated engine's speed is its own flags'."""
    real = [r for r in recipes if (wish.engine or r.fleet.spec.engine.kind) != "sim"]
    speeds = ((r.fleet, planned_speed(r.plan, r.fleet.spec.scaling.max)) for r in real if r.plan)
    return tuple(as_text(fleet.name, speed) for fleet, speed in speeds if speed is not None)


def _keeps(fleets: Sequence[Fleet]) -> bool:
    return sys.platform == "linux" and any(f.spec.gateway.keeper for f in fleets)


def check_port(port: int, flag: str = "--port") -> None:
    """InputError names who listens there."""
    if not 0 <= port < 65536:
        raise InputError(f"{flag} {port} is not a port.", f"Use {flag} {_free(8000)}.")
    if not port or not (holder := port_holder(port)):
        return
    if holder == NOT_ALLOWED:
        raise InputError(
            f"port {port} may not be used: {holder}.",
            f"Use {flag} {_free(8000)}, and a proxy or a redirect for {port}.",
        )
    raise InputError(
        f"port {port} is taken by {holder}.", f"Use {flag} {_free(max(port + 1, 1024))}, or stop it."
    )


def _free(port: int) -> int:
    """The first port from there on that nobody listens on: what is suggested must work."""
    return next((p for p in range(port, min(port + 100, 65536)) if port_holder(p) is None), 8000)


def check_keys(fleets: Sequence[Fleet]) -> None:
    """InputError when a spec names a keys file that is not there: the gateway would let nobody in."""
    for fleet in fleets:
        file = fleet.spec.gateway.keys_file
        if file and not Path(file).is_file():
            raise InputError(
                f"spec.gateway.keysFile of {fleet.name}: there is no file {file}.",
                f"Make it with its first key: seawall keys add me --file {file}",
            )


def check_memory(recipes: Sequence[ReplicaRecipe], need: dict[str, int], free: int) -> None:
    """EngineError unless the fewest replicas of every fleet fit into the memory that is free."""
    least = sum(
        max(1, r.fleet.spec.scaling.min) * need[r.fleet.name] for r in recipes if not r.fleet.spec.pool
    )
    for members in by_pool([r.fleet for r in recipes]).values():
        # One after the other: as many of the largest as the pool holds at once.
        plans = {r.fleet.name: r.plan for r in recipes}
        places = policy_of(members).capacity // min(cost_of(f, plans[f.name]) for f in members)
        least += sum(sorted((need[f.name] for f in members), reverse=True)[: max(1, places)])
    _enough(least, free)


def _enough(least: int, free: int) -> None:
    if least > free:
        raise EngineError(
            f"the fewest replicas need about {show_bytes(least)} of memory, and {show_bytes(free)} are free.",
            "Stop something, lower scaling.min or engine.kvCacheMemory, or try --engine sim.",
        )


def planned(fleet: Fleet, folder: Path | None = None, gpu: str | None = None) -> Plan | None:
    """The fleet's plan as the simulator and the renderer make it, so that all start and scale it alike.

    `folder`: where its weights lie already; `gpu`: what this machine has, for a fleet that leaves it open. None: the
    model's shape is not known here.
    """
    spec = fleet.spec
    if folder is not None and spec.model.config is None:
        spec = replace(spec, model=replace(spec.model, source=f"file://{folder}"))
    if gpu is not None and spec.hardware.gpu == "auto":
        spec = replace(spec, hardware=replace(spec.hardware, gpu=gpu))
    fleet = replace(fleet, spec=spec)
    try:
        return plan(fleet, resolve(fleet, offline=True))
    except SeawallError:
        return None


def check_plan(fleet: Fleet, made: Plan | None) -> None:
    """EngineError, with the plan's cure, for a fleet that would crash at every start. Where the forecast is not sure,
    the engine is asked. InputError where its minimum alone costs more than its budget."""
    if problem := scale.policy_of(fleet, made).overspent():
        raise InputError(f"{fleet.name}: {problem}.")
    if made is not None and made.verdict in ("refused", "oom", "invalid"):
        raise EngineError(
            f"{fleet.name} does not fit: {made.reason}.",
            "Change the spec, then look at it with `seawall plan`.",
        )


def check_gpus(recipes: Sequence[ReplicaRecipe], visible: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """This machine's GPUs, asked for only when a fleet wants some; EngineError when the fewest replicas lack one."""
    alone = [r for r in recipes if not r.fleet.spec.pool]
    least = sum(max(1, r.fleet.spec.scaling.min) * r.gpus for r in alone)
    for members in by_pool([r.fleet for r in recipes]).values():
        least += max(r.gpus for r in recipes if r.fleet in members)
    if not least:
        return ()
    devices = visible()
    if least > len(devices):
        raise EngineError(
            f"the fewest replicas need {least} GPUs, and {len(devices)} are visible here.",
            "Lower scaling.min or hardware.gpusPerReplica, look at CUDA_VISIBLE_DEVICES and `nvidia-smi -L`, "
            "or set hardware.gpu: cpu.",
        )
    return devices


def recipe_of(fleet: Fleet, wish: Wish, say: TellUser) -> ReplicaRecipe:
    """How a replica of this fleet is started; fetches the weights and installs the engine where they are missing.

    What may be refused comes before what takes long: a GPU that is not here before the weights, and a model that cannot
    be had, or does not fit, before 2.1 GB of an engine.
    """
    if (wish.engine or fleet.spec.engine.kind) == "sim":
        return replace(sim_recipe(fleet), plan=planned(fleet))
    vllm = None if is_cpu(fleet) else gpu_vllm(wish.cache, say)
    if vllm is None and (sketch := planned(fleet)) is not None:
        check_plan(fleet, sketch)
        _enough(max(1, fleet.spec.scaling.min) * (ENGINE_BYTES + sketch.weights_bytes), free_memory())
    wanted = fleet.spec.model
    folder = model.model_folder(wanted, wish.cache, say, weights_form(fleet.spec.engine.extra_args))
    made = _plan_here(fleet, folder)
    check_plan(fleet, made)
    if vllm is None:
        vllm = engine_env.install(wish.cache, say).vllm
    if made is None:
        say(f"{fleet.name}: no plan for this model: vLLM's own limits hold where the spec names none")
    recipe = vllm_recipe(fleet, vllm, folder, wish.cache)
    folders = {a.name: model.adapter_folder(a, wanted.allow_pickle, wish.cache, say) for a in wanted.adapters}
    return replace(
        recipe,
        plan=made,
        gpus=gpus.wanted(fleet, made),
        adapters={name: str(folder) for name, folder in folders.items()},
        lora_rank=max((model.lora_rank(folder) for folder in folders.values()), default=0),
    )


def _plan_here(fleet: Fleet, folder: Path) -> Plan | None:
    """The plan on this machine. A fleet that leaves the GPU open is planned for the one that is here, never for one
    that a cloud sells; where nobody can name it, there is no plan."""
    if fleet.spec.hardware.gpu != "auto":
        return planned(fleet, folder)
    here = gpus.model()
    return planned(fleet, folder, here) if here else None


def _need(recipe: ReplicaRecipe) -> int:
    """Bytes of host memory that one replica takes."""
    if recipe.engine == "sim":
        return SIM_BYTES
    if not is_cpu(recipe.fleet):
        return 2 * ENGINE_BYTES
    weights = sum(f.stat().st_size for f in Path(recipe.model).glob("*.safetensors"))
    return ENGINE_BYTES + weights + (recipe.limits.kv_cache_bytes or 0)
