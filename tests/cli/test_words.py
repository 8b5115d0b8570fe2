"""Figures and times as people read them, commands that can be pasted."""

from datetime import timedelta

import pytest

from modelyard_cli.view import Counts
from modelyard_cli.words import Caller, ago, duration, number, percent, rate, until
from testkit.cli_objects import NOW


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3600 * 23 + 300, "23 h 5 min"),
        (86400 * 4 + 3 * 3600, "4 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_ages_and_waits() -> None:
    assert ago(None, NOW) == ""
    assert ago(NOW - timedelta(seconds=5), NOW) == "5 s"
    assert until(NOW + timedelta(seconds=5), NOW) == "in 5 s"
    assert until(NOW - timedelta(seconds=5), NOW) == "now"
    assert until(None, NOW) == ""


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.19677, "19.7 %"), (0.0025, "0.25 %"), (0.00004, "0.004 %")],
)
def test_percents(share: float, text: str) -> None:
    assert percent(share) == text


def test_rates_and_numbers() -> None:
    assert rate(Counts(n=1200, bad=3)) == "3 of 1,200 (0.25 %)"
    assert rate(Counts()) == "0 of 0"
    assert number("212345.678") == "2.12e+05"
    assert number("1") == "1"
    assert number("n/a") == "n/a"


def test_commands_carry_what_chose_the_cluster() -> None:
    caller = Caller("kubectl modelyard", "--context prod", "serving")
    assert caller.own("abort", "fraud") == "kubectl modelyard abort fraud -n serving --context prod"
    assert caller.kubectl("get pods") == "kubectl get pods -n serving --context prod"
    assert caller.kubectl_anywhere("get nodes") == "kubectl get nodes --context prod"
    assert Caller().own("status") == "modelyard status"
