"""The live view of a rollout: where it is, who gets what, what the figures say, what happened."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelyard_cli.bounds import failing_e_value
from modelyard_cli.explain import explain
from modelyard_cli.explanation import Seen
from modelyard_cli.render import parts
from modelyard_cli.render.variants import render_variants
from modelyard_cli.sentences import figure
from modelyard_cli.view import Arm, Manifest, Metric, Rollout, View
from modelyard_cli.words import ago, number, until

EVENTS: Final = 6
REVISION_LABEL: Final = "modelyard.dev/revision"
GOOD_WHEN_FALSE: Final = frozenset({"FeaturesUnsupported", "Suspended", "Reconciling", "Stalled"})
NEVER_IN_PASSING: Final = frozenset({"Available", "FeaturesUnsupported", "Stalled"})
"""Conditions that no rollout makes bad on its way."""
NEUTRAL: Final = frozenset({"FixedReplicas", "Idle", "NotRequested", "NotSuspended"})
"""Reasons of conditions that say that something was not asked for."""


def render_status(
    seen: Seen, pods: Iterable[Manifest] = (), events: Iterable[Manifest] = ()
) -> RenderableType:
    """Return everything that is to be seen of one ModelDeployment.

    Args:
        seen: The ModelDeployment and the time.
        pods: Its pods.
        events: Events about it, in any order.
    """
    view = seen.view
    blocks: list[RenderableType] = [_head(seen)]
    if view.rollout.plan and view.rollout.step:
        blocks.append(_steps(view.rollout))
    blocks.append(_arms(view))
    blocks += render_variants(view.status.variants, seen.now)
    if evidence := _evidence(view, seen.now):
        blocks.append(evidence)
    if notes := list(_notes(view, seen.now)):
        blocks.append(Group(*notes))
    if shown := list(pods):
        blocks.append(_pods(shown, seen.now))
    blocks.append(_conditions(view, seen.now))
    if recent := _recent(events):
        blocks.append(_events(recent, seen.now))
    blocks.append(_next(seen))
    return Group(*(Padding(block, (0, 0, 1, 0)) for block in blocks))


def _head(seen: Seen) -> RenderableType:
    view = seen.view
    ready = view.condition("Ready")
    grid = Table.grid(padding=(0, 2, 0, 0))
    mark = parts.sign(parts.DONE if view.ready else parts.CURRENT)
    if view.condition("Stalled").status == "True":
        mark = parts.sign(parts.FAILED)
    state = "Ready" if view.ready else ready.reason or "not seen by the operator yet"
    grid.add_row(
        Text(f"{view.namespace}/{view.name}", style="bold"), Text.assemble(mark, f" {state}")
    )
    if view.status.url:
        grid.add_row(Text("url", style="dim"), view.status.url)
    grid.add_row(Text("rollout", style="dim"), _where(view.rollout, seen.now))
    if ready.message and not view.ready:
        grid.add_row(Text("because", style="dim"), ready.message)
    return grid


def _where(rollout: Rollout, now: datetime) -> Text:
    text = Text(rollout.state or "unknown", style="bold" if rollout.state != "Idle" else "dim")
    if rollout.paused_reason:
        text.append(f" ({rollout.paused_reason})")
    if rollout.step and rollout.plan:
        text.append(f" · step {rollout.step} of {len(rollout.plan)}")
    if since := ago(rollout.state_since, now):
        text.append(f" · since {since}", style="dim")
    if rollout.next_step_time:
        text.append(f" · next {until(rollout.next_step_time, now)}", style="dim")
    if rollout.deadline_time and rollout.state != "Idle":
        text.append(f" · deadline {until(rollout.deadline_time, now)}", style="dim")
    return text


def _steps(rollout: Rollout) -> RenderableType:
    text = Text()
    for at, step in enumerate(rollout.plan, 1):
        kind = parts.DONE if at < rollout.step else parts.AHEAD
        if at == rollout.step:
            kind = parts.FAILED if rollout.state in {"RollingBack", "RolledBack"} else parts.CURRENT
        text.append(" ── " if at > 1 else "", style="dim")
        text.append_text(parts.sign(kind))
        text.append(f" {step.weight} %", style="bold" if at == rollout.step else "")
        text.append(" (waits for you)" if step.pause else "", style="dim")
    return Group(parts.section("Steps"), text)


def _arms(view: View) -> RenderableType:
    table = parts.table("", "revision", "version", "share", "", "ready", right=("share", "ready"))
    colours = {"stable": "green", "candidate": "magenta"}
    for role, arm in (("stable", view.status.stable), ("candidate", view.status.candidate)):
        if arm is None:
            continue
        table.add_row(
            Text(role, style=colours[role]),
            arm.revision,
            arm.version,
            f"{arm.weight} %",
            parts.bar(arm.weight, colours[role]),
            _ready(arm),
        )
    if not table.row_count:
        return Text("no revision serves yet", style="dim")
    return Group(parts.section("Traffic"), table)


def _ready(arm: Arm) -> Text:
    wanted = "" if arm.replicas is None else f"/{arm.replicas}"
    short = arm.ready_replicas < (arm.replicas or 0)
    return Text(f"{arm.ready_replicas}{wanted}", style="yellow" if short else "")


def _evidence(view: View, now: datetime) -> RenderableType | None:
    analysis, shadow = view.rollout.analysis, view.rollout.shadow
    rows: list[RenderableType] = []
    if analysis.metrics:
        table = parts.table(
            *("metric", "stable bad", "candidate bad", "e-value", "verdict"),
            right=("stable bad", "candidate bad", "e-value"),
        )
        for metric in analysis.metrics:
            table.add_row(
                metric.metric,
                figure(metric, "stable"),
                figure(metric, "candidate"),
                _e_value(metric),
                parts.verdict(metric.verdict),
            )
        since = ago(analysis.window_start, now)
        rows += [parts.section("Analysis" + (f" (since {since})" if since else "")), table]
        bound = failing_e_value(view)
        if bound and view.rollout.state != "Probation":
            rows.append(Text(f"an e-value of {bound:,.0f} is a Fail", style="dim"))
    if analysis.errors:
        text = f"the figures could not be read, {analysis.errors} times in a row"
        rows.append(Text(text, style="magenta"))
    if shadow:
        agree = f", agreement {number(shadow.agreement)}" if shadow.agreement else ""
        rows.append(Text(f"Shadow: {shadow.samples:,} answers compared{agree}"))
    return Group(*rows) if rows else None


def _e_value(metric: Metric) -> str:
    if metric.queried or not metric.e_value:
        return "-"
    limit = f", max {number(metric.limit_e_value)}" if metric.limit_e_value else ""
    return f"{number(metric.e_value)}{limit}"


def _notes(view: View, now: datetime) -> Iterator[RenderableType]:
    rollout = view.rollout
    if last := rollout.last_rollback:
        text = (
            f"Taken back: {last.revision} ({last.reason}) {_since(last.time, now)} {last.message}"
        )
        yield Text(" ".join(text.split()), style="red")
    if rollout.rejected:
        yield Text(f"Rejected: {', '.join(rollout.rejected)}", style="dim")
    if command := rollout.last_command:
        text = f"Last command: {command.verb} {command.revision} {_since(command.time, now)}"
        yield Text(f"{' '.join(text.split())}: {command.result}", style="dim")


def _since(moment: datetime | None, now: datetime) -> str:
    return f"{ago(moment, now)} ago" if moment else ""


def _pods(pods: Sequence[Manifest], now: datetime) -> RenderableType:
    table = parts.table("pod", "", "state", "restarts", "age", right=("restarts", "age"))
    for pod in sorted(pods, key=lambda one: str(one["metadata"]["name"])):
        metadata = pod["metadata"]
        ready = any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in (pod.get("status") or {}).get("conditions") or ()
        )
        statuses = _containers(pod)
        table.add_row(
            metadata["name"],
            parts.sign(parts.DONE if ready else parts.CURRENT),
            "Ready" if ready else _pod_state(pod, statuses),
            str(sum(one.get("restartCount", 0) for one in statuses)),
            ago(_time(metadata.get("creationTimestamp")), now),
        )
    return Group(parts.section("Pods"), table)


def _containers(pod: Manifest) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    groups = (status.get("initContainerStatuses"), status.get("containerStatuses"))
    return [one for group in groups for one in group or ()]


def _pod_state(pod: Manifest, statuses: Iterable[Manifest]) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for one in statuses:
        state = one.get("state") or {}
        for kind in ("waiting", "terminated"):
            reason = (state.get(kind) or {}).get("reason", "")
            if reason not in {"", "Completed", "PodInitializing"}:
                return f"{one['name']}: {reason}"
    running = [one["name"] for one in statuses if "running" in (one.get("state") or {})]
    if running:
        return f"{running[-1]} works"
    return str((pod.get("status") or {}).get("phase", "Unknown"))


def _conditions(view: View, now: datetime) -> RenderableType:
    table = parts.table("condition", "", "reason", "since", "message", right=("since",))
    stalled = view.condition("Stalled").status == "True"
    for one in view.status.conditions:
        neutral = one.reason in NEUTRAL or one.status == "Unknown"
        good = (one.status == "True") != (one.type in GOOD_WHEN_FALSE)
        bad = parts.FAILED if stalled or one.type in NEVER_IN_PASSING else parts.CURRENT
        table.add_row(
            one.type,
            parts.sign(parts.AHEAD if neutral else parts.DONE if good else bad),
            one.reason,
            ago(one.last_transition_time, now),
            Text(one.message, style="dim" if good or neutral else ""),
        )
    if not table.row_count:
        return Text("The operator has written no conditions yet.", style="yellow")
    return Group(parts.section("Conditions"), table)


def _recent(events: Iterable[Manifest]) -> list[Manifest]:
    return sorted(events, key=lambda one: str(_event_time(one) or ""))[-EVENTS:]


def _events(events: Iterable[Manifest], now: datetime) -> RenderableType:
    table = parts.table("age", "event", "message", right=("age",))
    for one in events:
        warning = one.get("type") == "Warning"
        table.add_row(
            ago(_event_time(one), now),
            Text(str(one.get("reason", "")), style="red" if warning else ""),
            str(one.get("message", "")),
        )
    return Group(parts.section("Events"), table)


def _event_time(event: Manifest) -> datetime | None:
    return _time(
        event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _next(seen: Seen) -> RenderableType:
    steps = [step for step in explain(seen).steps if "--watch" not in step.command]
    rows = [Text.assemble((step.command, "cyan"), ("  " + step.why, "dim")) for step in steps[:3]]
    return Group(parts.section("Next"), *rows) if rows else Text("")
