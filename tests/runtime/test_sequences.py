"""Sequences of different lengths share a batch, and nobody sees the padding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard_runtime.config import SequenceBatching
from modelyard_runtime.engine.protocol import Array, Arrays, TensorSpec
from modelyard_runtime.errors import (
    InferenceError,
    InvalidInputError,
    OutOfMemoryError,
    StartupError,
)
from modelyard_runtime.model_calls import ModelCalls
from modelyard_runtime.sequences import Sequences, find_sequences

TOKENS = TensorSpec("tokens", "INT64", (-1, -1))
MASK = TensorSpec("mask", "FP32", (-1, -1))
KINDS = TensorSpec("kinds", "INT64", (-1, -1))
PROFILE = TensorSpec("profile", "FP32", (-1, 4))
INPUTS = (TOKENS, MASK, KINDS, PROFILE)
OUTPUTS = (
    TensorSpec("states", "FP32", (-1, -1, 2)),
    TensorSpec("pooled", "FP32", (-1, 4)),
)


class Attending:
    """Looks at all of a sequence, but for what the mask hides; a wrong mask changes every answer."""

    inputs = INPUTS
    outputs = OUTPUTS

    def __init__(self) -> None:
        self.shapes: list[list[tuple[int, ...]]] = []

    def predict(self, inputs: Arrays) -> Arrays:
        tokens, mask, kinds, profile = inputs
        self.shapes.append([array.shape for array in inputs])
        seen = (tokens + 10 * kinds) * mask
        mean = seen.sum(1, keepdims=True) / np.maximum(mask.sum(1, keepdims=True), 1)
        states = np.stack([seen - mean, tokens * mean], axis=2).astype(np.float32)
        return states, (profile + mean).astype(np.float32)


def find(fills: dict[str, Any] | None = None, **config: Any) -> Sequences:
    complete = {
        "input": "tokens",
        "mask": "mask",
        "also": ["kinds"],
        "buckets": [4, 8, 16],
        **config,
    }
    return find_sequences(SequenceBatching(**complete), INPUTS, OUTPUTS, fills or {"tokens": 7})


def request(rows: int, length: int, seed: int) -> Arrays:
    random = np.random.default_rng(seed)
    return (
        random.integers(0, 9, (rows, length)),
        np.ones((rows, length), np.float32),
        random.integers(0, 2, (rows, length)),
        random.standard_normal((rows, 4)).astype(np.float32),
    )


def same(left: Arrays, right: Arrays) -> bool:
    return all(
        a.shape == b.shape and a.flags.c_contiguous and np.allclose(a, b, rtol=1e-5, atol=1e-5)
        for a, b in zip(left, right, strict=True)
    )


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 16)), min_size=1, max_size=6),
    buckets=st.sampled_from([(), (2, 4, 8, 32), (32,)]),
)
def test_a_padded_batch_answers_like_every_request_alone(
    sizes: list[tuple[int, int]], buckets: tuple[int, ...]
) -> None:
    model, sequences = Attending(), find()
    told: list[float] = []
    calls = ModelCalls(model, buckets=buckets, sequences=sequences, on_padded=told.append)  # type: ignore[arg-type]
    requests = [request(rows, length, seed) for seed, (rows, length) in enumerate(sizes)]
    groups: dict[Any, list[Arrays]] = {}
    for each in requests:
        groups.setdefault(sequences.key(each), []).append(each)
    for group in groups.values():
        for asked, answer in zip(group, calls.run(group), strict=True):
            assert same(answer, Attending().predict(asked))
        rows, length = model.shapes[-1][0]
        assert length in sequences.buckets
        assert not buckets or rows in buckets
        real = sum(asked[0].size for asked in group)
        assert told[-1] == pytest.approx(1 - real / (rows * length))


def test_lengths_of_one_bucket_share_a_batch_and_others_do_not() -> None:
    sequences = find()
    keys = [sequences.key(request(1, length, 0)) for length in (1, 4, 5, 8)]
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_a_sequence_longer_than_every_bucket_is_refused_by_name_and_limit() -> None:
    with pytest.raises(InvalidInputError, match=r"'tokens'.*at most 16 elements, got 17"):
        find().key(request(1, 17, 0))


def test_inputs_that_should_be_as_long_and_are_not() -> None:
    tokens, mask, kinds, profile = request(1, 5, 0)
    with pytest.raises(InvalidInputError, match=r"'mask': expected the sequence's length 5"):
        find().key((tokens, mask[:, :4], kinds, profile))
    with pytest.raises(InvalidInputError, match=r"'kinds': expected the sequence's length 5"):
        find().key((tokens, mask, kinds[:, :4], profile))


def test_a_mask_that_was_left_out_is_ones_in_its_own_dtype() -> None:
    tokens, mask, kinds, profile = request(2, 5, 0)
    found: dict[int, Array] = {0: tokens, 2: kinds, 3: profile}
    complete = find().complete(found)
    assert complete[1].dtype == np.float32
    assert np.array_equal(complete[1], mask)
    given_mask = np.zeros_like(mask)
    assert find().complete({**found, 1: given_mask})[1] is given_mask


def test_an_output_of_fixed_size_is_never_shortened() -> None:
    """``pooled`` has four columns, as many as the padded sequence: it must keep them."""
    calls = ModelCalls(Attending(), sequences=find())  # type: ignore[arg-type]
    (answer,) = calls.run([request(1, 3, 0)])
    assert [array.shape for array in answer] == [(1, 3, 2), (1, 4)]
    named = ModelCalls(Attending(), sequences=find(outputs=[]))  # type: ignore[arg-type]
    (answer,) = named.run([request(1, 3, 0)])
    assert answer[0].shape == (1, 4, 2)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"input": "words"}, "no input 'words'"),
        ({"mask": "words"}, "no input 'words'"),
        ({"also": ["profile"]}, "axis 1 of 'profile' must be of any size"),
        ({"axis": 2}, "axis 2 of 'tokens' must be of any size"),
        ({"outputs": ["words"]}, "gives no 'words'"),
    ],
)
def test_a_configuration_that_fits_no_tensor(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(StartupError, match=problem):
        find(**config)


class Echo:
    """Gives back what it is given."""

    def __init__(self) -> None:
        self.given: list[Array] = []

    def predict(self, inputs: Arrays) -> Arrays:
        self.given.append(inputs[0])
        return inputs


def test_rows_are_padded_to_the_next_bucket_with_the_last_row() -> None:
    model = Echo()
    told: list[float] = []
    calls = ModelCalls(model, buckets=(2, 4, 8), on_padded=told.append)  # type: ignore[arg-type]
    first, second = np.arange(4.0).reshape(2, 2), np.arange(6.0).reshape(3, 2)
    answers = calls.run([(first,), (second,)])
    assert np.array_equal(answers[0][0], first)
    assert np.array_equal(answers[1][0], second)
    assert model.given[0].shape == (8, 2)
    assert (model.given[0][5:] == second[-1]).all()
    assert told == [pytest.approx(3 / 8)]
    calls.run([(first,)])
    assert model.given[1] is first


def test_strings_are_padded_too() -> None:
    words = TensorSpec("words", "BYTES", (-1, -1))
    config = SequenceBatching(input="words", buckets=(3,))
    sequences = find_sequences(config, (words,), (words,), {})
    model = Echo()
    calls = ModelCalls(model, sequences=sequences)  # type: ignore[arg-type]
    asked = np.array([[b"a", b"bc"]], dtype=object)
    assert calls.run([(asked,)])[0][0].tolist() == [[b"a", b"bc"]]
    assert model.given[0].tolist() == [[b"a", b"bc", b""]]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("CUDA error: out of memory"), OutOfMemoryError),
        (ValueError("no"), ValueError),
        (InvalidInputError("the word count is out of memory"), InvalidInputError),
    ],
)
def test_a_model_that_runs_out_of_memory_is_told_from_one_that_fails(
    raised: Exception, expected: type[Exception]
) -> None:
    def predict(_: Arrays) -> Arrays:
        raise raised

    calls = ModelCalls(SimpleNamespace(predict=predict))
    with pytest.raises(expected):
        calls.run([(np.zeros(1),)])


def test_outputs_that_do_not_count_the_rows_are_refused() -> None:
    model = SimpleNamespace(predict=lambda inputs: (inputs[0][:1],))
    for calls in (ModelCalls(model), ModelCalls(model, buckets=(4,))):
        with pytest.raises(InferenceError, match="answered 4 rows"):
            calls.run([(np.zeros((2, 1)),), (np.zeros((2, 1)),)])
