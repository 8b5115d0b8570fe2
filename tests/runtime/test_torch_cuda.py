"""The GPU's staging and recorded batches, on the CPU: where each byte goes is the same there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from modelyard_runtime.engine.protocol import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def cuda() -> Any:
    from modelyard_runtime.engine import torch_cuda  # noqa: PLC0415 - needs torch

    return torch_cuda


ARRAYS: tuple[np.ndarray[Any, Any], ...] = (
    np.arange(6, dtype=np.int8).reshape(2, 3),
    np.array([[1.5], [-2]], DTYPES["BF16"]),
    np.array([True, False]),
    np.array(7, np.int64),
    np.empty((2, 0), np.float32),
    np.arange(4, dtype=np.float64).reshape(2, 2),
)


def test_a_batch_comes_back_as_it_went(cuda: Any) -> None:
    staging = cuda.Staging(torch.device("cpu"))
    back = staging.to_host(staging.to_device(ARRAYS))
    for array, got in zip(ARRAYS, back, strict=True):
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        assert got.tolist() == array.tolist()


def test_no_batch_overwrites_another(cuda: Any) -> None:
    staging = cuda.Staging(torch.device("cpu"))
    first = staging.to_device((np.full((4, 2), 1, np.float32),))
    answered = staging.to_host(first)
    second = staging.to_device((np.full((100, 2), 2, np.float32),))  # the buffer grows
    third = staging.to_device((np.full((3, 2), 3, np.float32),))
    assert [set(each[0].flatten().tolist()) for each in (first, second, third)] == [{1}, {2}, {3}]
    staging.to_host(third)
    assert set(answered[0].flatten().tolist()) == {1}


def test_outputs_may_be_laid_out_anyhow(cuda: Any) -> None:
    output = torch.arange(6.0).reshape(2, 3)
    (got,) = cuda.Staging(torch.device("cpu")).to_host((output.T,))
    assert got.tolist() == output.T.tolist()


def test_every_place_is_aligned(cuda: Any) -> None:
    tensors = [torch.zeros(n, dtype=torch.uint8) for n in (1, 256, 257, 0, 5)]
    places, total = cuda.side_by_side(tensors)
    assert [place.start for place in places] == [0, 256, 512, 1024, 1024]
    assert [place.stop - place.start for place in places] == [1, 256, 257, 0, 5]
    assert total == 1280


def record(
    calls: list[int],
) -> Callable[[Any, tuple[Any, ...]], tuple[Callable[[], None], tuple[Any, ...]]]:
    """Record as a CUDA graph does: fixed memory for what goes in and what comes out."""

    def capture(call: Any, inputs: tuple[Any, ...]) -> tuple[Callable[[], None], tuple[Any, ...]]:
        outputs = tuple(each.clone() for each in call(*inputs))

        def replay() -> None:
            calls.append(inputs[0].shape[0])
            for output, fresh in zip(outputs, call(*inputs), strict=True):
                output.copy_(fresh)

        return replay, outputs

    return capture


def double(x: Any) -> tuple[Any, ...]:
    return (x * 2, x.sum(1))


@pytest.mark.parametrize(("rows", "bucket"), [(1, 1), (2, 2), (3, 4), (5, 6), (6, 6)])
def test_a_batch_runs_in_the_smallest_record_that_holds_it(
    cuda: Any, rows: int, bucket: int
) -> None:
    calls: list[int] = []
    call = cuda.GraphedCall(double, (torch.zeros(6, 2),), cuda.powers_of_two(6), record(calls))
    x = torch.arange(2.0 * rows).reshape(rows, 2)
    for answer, expected in zip(call(x), double(x), strict=True):
        assert answer.tolist() == expected.tolist()
    assert calls == [bucket]


@pytest.mark.parametrize(
    "x", [torch.ones(7, 2), torch.ones(2, 3), torch.ones(2, 2, dtype=torch.float64)]
)
def test_what_was_not_recorded_runs_all_the_same(cuda: Any, x: Any) -> None:
    calls: list[int] = []
    call = cuda.GraphedCall(double, (torch.zeros(6, 2),), [2, 6], record(calls))
    for answer, expected in zip(call(x), double(x), strict=True):
        assert answer.tolist() == expected.tolist()
    assert calls == []


def test_outputs_that_do_not_count_rows_are_not_recorded(cuda: Any) -> None:
    with pytest.raises(RuntimeError, match="does not count the 2 rows"):
        cuda.GraphedCall(lambda x: (x.sum(0),), (torch.zeros(2, 3),), [2], record([]))


def test_buckets_are_powers_of_two_and_the_largest_batch(cuda: Any) -> None:
    assert cuda.powers_of_two(1) == [1]
    assert cuda.powers_of_two(32) == [1, 2, 4, 8, 16, 32]
    assert cuda.powers_of_two(12) == [1, 2, 4, 8, 12]
