"""Service level objectives as recording rules and multi-window burn-rate alerts.

Method: Google's SRE Workbook, chapter 5: page when 14.4 x the budget burns over 1 h and 5 min, or 6 x over 6 h
and 30 min; a ticket when 1 x burns over 3 days and 6 h. The short window ends the alert soon after the cause.
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.domain.labels import (
    QUEUED_REQUESTS,
    REQUESTS_ADMITTED_TOTAL,
    REQUESTS_FAILED_TOTAL,
    RETRIES_TOTAL,
    TIME_TO_FIRST_TOKEN_SECONDS,
)
from seawall.domain.told import TTFT_BOUNDS_S
from seawall.render.demand import gateway_labels
from seawall.render.inputs import Object, Wanted
from seawall.render.observe.alerts import Alert
from seawall.render.promql import parsed

WINDOWS = ("5m", "30m", "1h", "6h", "3d")
BURNS = (
    ("Fast", 14.4, "1h", "5m", "2m", "critical"),
    ("Medium", 6.0, "6h", "30m", "15m", "critical"),
    ("Slow", 1.0, "3d", "6h", "1h", "warning"),
)


@dataclass(frozen=True, kw_only=True)
class ServiceObjective:
    name: str
    """`errors` or `ttft`; part of the recorded series' name."""
    bad: str
    """Share of bad requests over the window `{w}`."""
    budget: float
    alert: str
    what: str
    do: str


def bucket_for(seconds: float) -> float:
    """The smallest bucket of the gateway's histogram that holds the objective."""
    return next((b for b in TTFT_BOUNDS_S if b >= seconds), TTFT_BOUNDS_S[-1])


def bucket_matcher(bound: float) -> str:
    """Matcher of a bucket: Prometheus 3 writes le="5.0" where the page says le="5"."""
    text = f"{bound:g}"
    return f'le="{text}"' if "." in text else f'le=~"{text}|{text}[.]0"'


def objectives(wanted: Wanted) -> tuple[ServiceObjective, ServiceObjective]:
    slo = wanted.fleet.spec.traffic.slo
    tags = gateway_labels(wanted)
    bound = bucket_for(slo.ttft)
    total = f"sum(rate({REQUESTS_ADMITTED_TOTAL}{{{tags}}}[{{w}}]))"
    counted = f"sum(rate({TIME_TO_FIRST_TOKEN_SECONDS}_count{{{tags}}}[{{w}}]))"
    good = f"sum(rate({TIME_TO_FIRST_TOKEN_SECONDS}_bucket{{{tags},{bucket_matcher(bound)}}}[{{w}}]))"
    return (
        ServiceObjective(
            name="errors",
            bad=f"sum(rate({REQUESTS_FAILED_TOTAL}{{{tags}}}[{{w}}])) / ({total} > 0)",
            budget=1 - slo.availability,
            alert="SeawallErrorBudgetBurn",
            what=f"more than {1 - slo.availability:.3%} of the accepted requests are not answered whole",
            do=f"Look at {RETRIES_TOTAL} by reason and at replicas that come and go: kubectl get pods -w. "
            "Engine errors: kubectl logs of the Pod with the most restarts, --previous.",
        ),
        ServiceObjective(
            name="ttft",
            bad=f"1 - {good} / ({counted} > 0)",
            budget=1 - slo.availability,
            alert="SeawallTTFTBudgetBurn",
            what=f"more than {1 - slo.availability:.3%} of the requests wait over {bound:g} s for their first token "
            f"(objective {slo.ttft:g} s)",
            do=f"Is the queue long ({QUEUED_REQUESTS})? Then capacity is missing: see SeawallQueueGrows. Is it "
            "short? Then prompts are longer than planned: compare vllm:request_prompt_tokens with the spec.",
        ),
    )


def recorded(wanted: Wanted, objective: ServiceObjective, window: str) -> str:
    return f"seawall:{objective.name}:ratio_rate{window}"


def recording_rules(wanted: Wanted) -> list[Object]:
    tags = {"fleet": wanted.name, "namespace": wanted.namespace}
    return [
        {
            "record": recorded(wanted, objective, window),
            "expr": parsed(objective.bad.replace("{w}", window)),
            "labels": dict(tags),
        }
        for objective in objectives(wanted)
        for window in WINDOWS
    ]


def burn_alerts(wanted: Wanted) -> list[Alert]:
    tags = gateway_labels(wanted)
    out: list[Alert] = []
    for objective in objectives(wanted):
        for speed, factor, long, short, wait, severity in BURNS:
            limit = f"{factor * objective.budget:.6g}"
            over = " and ".join(
                f"{recorded(wanted, objective, window)}{{{tags}}} > {limit}" for window in (long, short)
            )
            out.append(
                Alert(
                    name=f"{objective.alert}{speed}",
                    expr=over,
                    wait=wait,
                    severity=severity,
                    summary=f"{{{{ $labels.fleet }}}}: {objective.what}, at {factor:g} times the rate it may",
                    why=f"Over {long} and {short} the error budget burns {factor:g} times too fast.",
                    do=objective.do,
                )
            )
    return out
