"""What makes a torch model faster, chosen by measuring it.

Nothing here changes what a model computes beyond the rounding of its floats: a candidate counts only
if it answers made-up inputs of several sizes as the model itself does.
"""

from __future__ import annotations

import math
import time
import warnings
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

import structlog
import torch

from modelyard_runtime.engine.protocol import Optimization
from modelyard_runtime.engine.torch_cuda import GraphedCall, capture_graph, powers_of_two
from modelyard_runtime.engine.torch_engine import Flat, brief
from modelyard_runtime.engine.torch_trace import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from modelyard_runtime.engine.torch_engine import Call

    Tensors = tuple[torch.Tensor, ...]

_log = structlog.stdlib.get_logger(__name__)

_BUDGET_S: Final = 2.0
"""For trying; the start of the process waits for it."""
_MOST_FORWARDS: Final = 20
"""Slow models get more than the budget: so many full batches."""
_SLICE_S: Final = 0.08
"""For timing one candidate on one input."""
_ROUNDS: Final = 3
"""At least so often is anything timed; the fastest counts."""
_MIN_GAIN: Final = 1.05
"""Less than that is the noise of the clock."""
_WORST_LOSS: Final = 0.92
"""A gain for full batches must not be paid for by single rows, nor the other way round."""
_MOST_WEIGHTS_BYTES: Final = 1 << 30
"""Freezing holds the weights twice for a while."""
_TOLERANCE: Final[Mapping[torch.dtype, float]] = {
    torch.float16: 1e-2,
    torch.bfloat16: 3e-2,
    torch.float32: 1e-4,
    torch.float64: 1e-8,
}
"""Relative to each value and to the largest one; numbers that are not floats must be equal."""
_CONVOLUTION_AXES: Final = 4


class Candidates:
    """Makes faster variants of a module.

    Args:
        module: What the model runs.
        unlike: Inputs to trace with: they differ in every axis that may vary; none: no trace.
    """

    def __init__(self, module: Flat, unlike: Sequence[Tensors]) -> None:
        self._module = module
        self._unlike = unlike

    def names(self) -> list[str]:
        """List what can be tried, most promising first.

        Returns:
            Names for ``build``.
        """
        parameters = list(self._module.parameters())
        size = sum(each.numel() * each.element_size() for each in parameters)
        frozen = ["freeze", "freeze+optimize_for_inference"]
        if size > _MOST_WEIGHTS_BYTES or not (self._unlike or self._scripted):
            frozen = []
        if all(each.ndim != _CONVOLUTION_AXES for each in parameters):
            return frozen
        return ["channels_last", *(f"channels_last+{name}" for name in reversed(frozen)), *frozen]

    def build(self, name: str) -> Call:
        """Make one variant; the module itself is left as it was.

        Args:
            name: One of ``names``, but ``channels_last`` alone.

        Returns:
            The variant.

        Raises:
            Exception: Whatever torch raises for a module that it cannot freeze, or trace for all
                sizes.
        """
        if name.startswith("channels_last"):
            with channels_last(self._module):
                return self.build(name.removeprefix("channels_last+"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            module = torch.jit.freeze(self._script())
            if name.endswith("optimize_for_inference"):
                module = torch.jit.optimize_for_inference(module)
        return self._module.around(module) if self._scripted else module

    @property
    def _scripted(self) -> bool:
        return isinstance(self._module.inner, torch.jit.ScriptModule)

    def _script(self) -> Any:
        if self._scripted:
            return self._module.inner
        return trace(self._module, self._unlike)


@contextmanager
def channels_last(module: torch.nn.Module) -> Iterator[None]:
    """Lay convolutions out as the kernels like them, for a while.

    Args:
        module: Its four-dimensional weights are laid out anew.

    Yields:
        Nothing.
    """
    _lay_out(module, torch.channels_last)
    try:
        yield
    finally:
        _lay_out(module, torch.contiguous_format)


def _lay_out(module: torch.nn.Module, memory_format: torch.memory_format) -> None:
    # Parameters made in inference mode could not be laid out back.
    with torch.inference_mode(mode=False), torch.no_grad():
        module.to(memory_format=memory_format)


def optimized(
    module: Flat,
    samples: Sequence[Tensors],
    *,
    unlike: Sequence[Tensors] = (),
    freezable: bool = True,
) -> tuple[Call, Optimization]:
    """Choose the fastest variant of a module that answers as the module does.

    Args:
        module: What the model runs.
        samples: Inputs that it answers: the first of one row, the last of a full batch.
        unlike: Inputs that differ in every axis that may vary; none: there are no such ones.
        freezable: Whether anything but the layout of weights may be tried.

    Returns:
        What to run, and what was chosen. The module itself is changed if its layout was chosen.
    """
    expected = [module(*sample) for sample in samples]
    if not all(_agree(module(*s), e) for s, e in zip(samples, expected, strict=True)):
        _log.info("the model's answers are not repeatable, nothing is optimised")
        return module, Optimization()
    race = _Race(module, samples, expected)
    candidates = Candidates(module, unlike)
    for name in candidates.names():
        if race.over:
            _log.info("no time left to try", variant=name)
            break
        if name == "channels_last":
            with channels_last(module):
                race.enter(name, lambda: module)
        elif freezable:
            race.enter(name, partial(candidates.build, name))
    call, found = race.result()
    if call is module and samples[0][0].is_cuda:
        return _recorded(module, samples, expected, found)
    return call, found


def _recorded(
    module: Flat, samples: Sequence[Tensors], expected: Sequence[Tensors], found: Optimization
) -> tuple[Call, Optimization]:
    """Try CUDA graphs on top of what was chosen; the graphs hold on to the weights as they are."""
    race = _Race(module, samples, expected)
    buckets = powers_of_two(samples[-1][0].shape[0])
    race.enter("cuda_graphs", lambda: GraphedCall(module, samples[-1], buckets, capture_graph))
    call, graphs = race.result()
    if graphs.chosen == "none":
        return module, found
    chosen = graphs.chosen if found.chosen == "none" else f"{found.chosen}+{graphs.chosen}"
    return call, Optimization(chosen, round(found.gain * graphs.gain, 2))


def compiled(
    module: Flat, samples: Sequence[Tensors], options: Mapping[str, Any]
) -> tuple[Call, Optimization]:
    """Compile a module because the user asks for it.

    Args:
        module: What the model runs.
        samples: As for ``optimized``.
        options: Arguments of ``torch.compile``.

    Returns:
        What to run, and what it gained. A module that does not compile, or then answers otherwise,
        runs as it is; the log says why.
    """
    expected = [module(*sample) for sample in samples]
    try:
        call: Call = torch.compile(_with_own_code(module), **options)
        for sample, answer in zip(samples, expected, strict=True):
            if not _agree(call(*sample), answer):
                _log.warning("the compiled model answers otherwise, it runs uncompiled")
                return module, Optimization()
    except Exception as error:  # noqa: BLE001 - a compiler's errors have no common class
        _log.warning("the model does not compile, it runs uncompiled", problem=brief(error))
        return module, Optimization()
    ends = _ends(samples)
    gain = _gain([_seconds(module, s) for s in ends], [_seconds(call, s) for s in ends])
    return call, Optimization("compile", round(gain, 2))


def _with_own_code(module: Flat) -> Call:
    """Let nothing that is compiled count for another model.

    What is compiled belongs to a code object, which all modules of a class share: a ninth model, or
    a ninth load of one, would run uncompiled (``recompile_limit``), and what was compiled for those
    that are gone would stay.
    """
    shared = type(module).forward
    own = FunctionType(shared.__code__.replace(), shared.__globals__, shared.__name__)
    return MethodType(own, module)


class _Race:
    """Times variants that agree, and keeps the fastest."""

    def __init__(
        self, module: Flat, samples: Sequence[Tensors], expected: Sequence[Tensors]
    ) -> None:
        self._module = module
        self._samples = samples
        self._expected = expected
        self._ends = _ends(samples)
        self._base = [_seconds(module, sample) for sample in self._ends]
        budget_s = max(_BUDGET_S, _MOST_FORWARDS * self._base[-1])
        self._deadline = time.perf_counter() + budget_s
        self._best: tuple[float, str, Call] = (_MIN_GAIN, "none", module)

    @property
    def over(self) -> bool:
        """Whether the time is used up."""
        return time.perf_counter() > self._deadline

    def enter(self, name: str, build: Callable[[], Call]) -> None:
        """Let one variant run; one that fails or disagrees is out."""
        try:
            call = build()
            for sample, answer in zip(self._samples, self._expected, strict=True):
                if not _agree(call(*sample), answer):
                    _log.info("a faster variant answers otherwise", variant=name)
                    return
            seconds = [_seconds(call, sample) for sample in self._ends]
        except Exception as error:  # noqa: BLE001 - whatever a variant raises, the model itself runs
            _log.info("a faster variant does not run", variant=name, problem=brief(error))
            return
        gains = [before / after for before, after in zip(self._base, seconds, strict=True)]
        gain = _gain(self._base, seconds)
        _log.debug("timed a variant", variant=name, gain=round(gain, 2))
        if gain > self._best[0] and min(gains) > _WORST_LOSS:
            self._best = (gain, name, call)

    def result(self) -> tuple[Call, Optimization]:
        """Return the winner, after a second look at it beside the model itself."""
        _, name, call = self._best
        if name == "none":
            return self._module, Optimization()
        if name == "channels_last":
            _lay_out(self._module, torch.channels_last)
            gain = _gain(self._base, [_seconds(call, sample) for sample in self._ends])
        else:
            gain = self._again(call)
        if gain < _MIN_GAIN:
            _lay_out(self._module, torch.contiguous_format)
            return self._module, Optimization()
        return call, Optimization(name, round(gain, 2))

    def _again(self, call: Call) -> float:
        """Time both in turns: what disturbed one of them then disturbs the other too."""
        base, other = [math.inf] * len(self._ends), [math.inf] * len(self._ends)
        for _ in range(_ROUNDS):
            for at, sample in enumerate(self._ends):
                base[at] = min(base[at], _once(self._module, sample))
                other[at] = min(other[at], _once(call, sample))
        return _gain(base, other)


def _ends(samples: Sequence[Tensors]) -> list[Tensors]:
    return [samples[0], samples[-1]] if len(samples) > 1 else [samples[0]]


def _gain(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the geometric mean of the gains, so that no batch size outweighs another."""
    logs = [math.log(b / a) for b, a in zip(before, after, strict=True)]
    return math.exp(sum(logs) / len(logs))


def _seconds(call: Call, sample: Tensors) -> float:
    """Time one forward pass: the fastest of a few, after what is only done once."""
    for _ in range(_ROUNDS - 1):
        call(*sample)
    best, end = math.inf, time.perf_counter() + _SLICE_S
    rounds = 0
    while rounds < _ROUNDS or time.perf_counter() < end:
        best = min(best, _once(call, sample))
        rounds += 1
    return best


def _once(call: Call, sample: Tensors) -> float:
    cuda = sample[0].is_cuda
    if cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    call(*sample)
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _agree(answer: Tensors, expected: Tensors) -> bool:
    return len(answer) == len(expected) and all(map(_close, answer, expected))


def _close(left: torch.Tensor, right: torch.Tensor) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    tolerance = _TOLERANCE.get(right.dtype)
    if tolerance is None or not right.numel():
        return torch.equal(left, right)
    finite = right[right.isfinite()].abs()
    scale = finite.max().item() if finite.numel() else 0.0
    return torch.allclose(left, right, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
