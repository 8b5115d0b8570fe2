from hypothesis import given
from hypothesis import strategies as st

from modelyard_operator.traffic.shares import LARGEST, WHOLE, divide, percent

percents = st.integers(1, 100)
variants = st.lists(st.integers(1, LARGEST), max_size=4).filter(lambda some: sum(some) <= LARGEST)


def shares(weight: int, taken: list[int]) -> dict[str, int]:
    pair = {"stable": 100 - weight, "candidate": weight}
    return divide(pair, {f"variant-{number}": one for number, one in enumerate(taken)})


@given(percents, variants)
def test_shares_are_all_of_the_requests_and_none_is_off_by_one(
    weight: int, taken: list[int]
) -> None:
    found = shares(weight, taken)
    assert sum(found.values()) == WHOLE
    rest = WHOLE - 10 * sum(taken)
    exact = {"stable": rest * (100 - weight) / 100, "candidate": rest * weight / 100}
    for name, share in exact.items():
        assert abs(found[name] - share) <= 0.5
        assert (found[name] > 0) == (share > 0)
    assert [found[f"variant-{n}"] for n in range(len(taken))] == [10 * one for one in taken]


@given(percents, variants)
def test_the_percent_of_the_rollout_is_read_back_whatever_the_variants_take(
    weight: int, taken: list[int]
) -> None:
    found = shares(weight, taken)
    pair = found["stable"] + found["candidate"]
    assert percent(found["candidate"], pair) == weight


def test_a_quarter_of_what_a_tenth_leaves() -> None:
    assert divide({"a": 75, "b": 25}, {"v": 10}) == {"a": 675, "b": 225, "v": 100}
    assert list(divide({"a": 75, "b": 25}, {"v": 10})) == ["a", "b", "v"]


def test_one_backend_has_all_that_is_left() -> None:
    assert divide({"a": 100}, {"v": 30, "w": 20}) == {"a": 500, "v": 300, "w": 200}
    assert divide({"a": 0, "b": 100}, {}) == {"a": 0, "b": 1000}


def test_without_a_backend_nobody_gets_anything() -> None:
    assert divide({}, {"v": 30}) == {}
