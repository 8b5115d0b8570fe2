"""Variants: their shares of all requests, and how they do beside stable."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from modelyard_cli.render import parts
from modelyard_cli.view import Variant
from modelyard_cli.words import ago, number, rate


def render_variants(variants: Sequence[Variant], now: datetime) -> Iterator[RenderableType]:
    """Yield what is to be seen of variants; nothing where there are none.

    Args:
        variants: As status has them.
        now: Current time, in UTC.
    """
    if not variants:
        return
    table = parts.table(
        *("variant", "revision", "version", "of all requests", "ready"),
        right=("of all requests", "ready"),
    )
    for one in variants:
        ready = f"{one.ready_replicas}/{one.replicas or 0}"
        table.add_row(one.name, one.revision, one.version, f"{one.weight} %", ready)
    troubles = [
        Text(f"{one.name}: {one.message}", style="yellow") for one in variants if one.message
    ]
    yield Group(parts.section("Variants"), table, *troubles)
    for one in variants:
        if one.comparison.metrics:
            yield _comparison(one, now)


def _comparison(variant: Variant, now: datetime) -> RenderableType:
    seen = variant.comparison
    names = (
        "metric",
        "stable bad",
        f"{variant.name} bad",
        f"e-value of {variant.name} being worse",
    )
    table = parts.table(*names, right=names[1:])
    for metric in seen.metrics:
        e_value = number(metric.e_value) if metric.e_value else "-"
        table.add_row(metric.metric, rate(metric.stable), rate(metric.variant), e_value)
    since = ago(seen.since, now)
    title = f"Variant {variant.name} beside {seen.stable}" + (f" (since {since})" if since else "")
    return Group(parts.section(title), table)
