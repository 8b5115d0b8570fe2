"""``model.yaml``: each key does what the reference says, and a wrong one is named."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import BaseModel

from modelyard_runtime import serving as serving_room
from modelyard_runtime.__main__ import _overrides, _parser
from modelyard_runtime.artifacts import digest_of
from modelyard_runtime.call import Call
from modelyard_runtime.config import ModelConfig, read_config
from modelyard_runtime.errors import Reason, StartupError
from modelyard_runtime.grpc_api import inference_pb2 as pb
from modelyard_runtime.grpc_api.servicer import Servicer
from modelyard_runtime.service import Service
from modelyard_runtime.settings import RuntimeSettings
from testkit import runtime_models as models
from testkit.runtime_serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "model-yaml.md"
PREDICT = "def predict(x):\n    return {'y': x * 2}\n"
TABLE = "inputs: [{name: x, dtype: FP32, shape: [-1, 4]}]\n"


def settings_of(**values: Any) -> RuntimeSettings:
    return RuntimeSettings(**values)


def written(folder: Path, config: str, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.yaml").write_text(config)
    for name, content in files.items():
        (folder / f"{name}.py").write_text(content)
    return folder


async def reason_of(repository: Path, **settings: Any) -> StartupError:
    service = Service(settings_of(model_repository=repository, threads=1, **settings))
    with pytest.raises(StartupError) as caught:
        await service.start()
    return caught.value


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from keys_of(kind, f"{prefix}{name}.")


def test_the_reference_knows_every_key_and_no_other() -> None:
    documented = set(re.findall(r"^\| `([a-z_.]+)`", REFERENCE.read_text(), re.MULTILINE))
    assert documented == {
        re.sub(r"^(inputs|outputs)\.(name|dtype|shape)$", r"inputs.\2", key)
        for key in keys_of(ModelConfig)
        if key not in {"outputs.optional", "outputs.pad_value", "inputs.labels"}
    }


def test_the_example_of_the_reference_is_valid(tmp_path: Path) -> None:
    found = re.search(r"^```yaml\n(.*?)^```", REFERENCE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    (tmp_path / "model.yaml").write_text(found[1])
    config = read_config(tmp_path, settings_of())
    assert config.inputs[1].pad_value == "unknown"
    assert config.queue.default_timeout_ms == 500


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a", "expected keys and values"),
        ("a: [", "not YAML"),
        ("batching: {max_size: 0}", "batching.max_size"),
        ("batching: {max_sise: 1}", "known are axis|max_size"),
        ("allow_pickle: true", "allow_pickle: needs digest"),
        ("versions: {only: [1]}", "'only' lists the versions of policy 'specific'"),
        (
            "inputs: [{name: x, dtype: FP32, shape: [1]}, {name: x, dtype: FP32, shape: [1]}]",
            "twice",
        ),
        ("inputs: [{name: x, dtype: FP32, shape: [1], pad_value: a}]", "must be a value of FP32"),
        ("inputs: [{name: x, dtype: FP32, shape: [1, -1], optional: true}]", "fixed inner sizes"),
        ("outputs: [{name: y, dtype: FP32, shape: [1, 3], labels: [a]}]", "must name 3 positions"),
        ("outputs: [{name: y, dtype: FP32, shape: [1], optional: true}]", "belong to inputs"),
        ("name: ../etc", "name"),
        ("entry: ../handler.py", "entry"),
        ("queue: {default_timeout_ms: soon}", "queue.default_timeout_ms"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(StartupError, match=problem) as caught:
        read_config(tmp_path, settings_of())
    assert caught.value.reason == Reason.INVALID_SETTINGS
    assert "model-yaml.md" in caught.value.hint


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    written(
        tmp_path / "m", "device: CPU\nbatching: {max_size: 4}\nqueue: {default_timeout_ms: 10}\n"
    )
    plain = read_config(tmp_path / "m", settings_of())
    assert (plain.device, plain.batching.max_size, plain.batching.max_delay_ms) == ("CPU", 4, 0)
    assert plain.queue.default_timeout_ms == 10
    stated = read_config(
        tmp_path / "m", settings_of(max_batch_size=8, device="Auto", request_timeout_s=2)
    )
    assert (stated.device, stated.batching.max_size) == ("CPU", 8)
    assert stated.queue.default_timeout_ms == 2000


def test_a_folder_says_under_which_name_it_is_served(tmp_path: Path) -> None:
    def name(*arguments: str) -> str:
        found: str = _overrides(_parser().parse_args(["serve", *arguments]))["model_name"]
        return found

    folder = str(written(tmp_path / "some.folder", "name: fraud"))
    assert name(folder) == "fraud"
    assert name(folder, "--name", "other") == "other"
    for text in ("", "name: ../etc", "a: ["):
        written(tmp_path / "some.folder", text)
        assert name(folder) == "some.folder"
    assert name(str(models.linear_onnx(tmp_path / "fraud 8.onnx"))) == "fraud-8"


async def test_entry_and_kwargs_make_the_model(tmp_path: Path) -> None:
    code = (
        "class Other:\n    def predict(self, x): raise ValueError\n"
        "class Scale:\n"
        "    def __init__(self, factor): self.factor = factor\n"
        "    def predict(self, x): return {'y': x * self.factor}\n"
    )
    config = "entry: serve.py:Scale\nkwargs: {factor: 3}\n" + TABLE
    async with serving(written(tmp_path, config, serve=code, handler="1 / 0")) as (client, _):
        row = models.request("x", "FP32", [1, 4], [1, 2, 3, 4])
        answer = await client.post("/v2/models/m/infer", json=row)
        assert answer.json()["outputs"][0]["data"] == [3, 6, 9, 12]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("entry: serve.py:Scale", "no such file"),
        ("kwargs: {a: 1}", "no handler.py to take them"),
        ("entry: handler.py:Nothing", "no such file"),
    ],
)
async def test_an_entry_that_is_not_there(tmp_path: Path, config: str, problem: str) -> None:
    models.linear_onnx(written(tmp_path / "m", config) / "model.onnx")
    failure = await reason_of(tmp_path, allow_pickle=True)
    assert failure.reason == Reason.INVALID_HANDLER
    assert problem in failure.message


async def test_a_typing_error_in_entry_runs_no_other_file(tmp_path: Path) -> None:
    written(tmp_path / "m", "entry: handlr.py:Scale", handler="raise SystemExit('ran')")
    failure = await reason_of(tmp_path, allow_pickle=True)
    assert "no such file" in failure.message


async def test_a_digest_is_checked_before_anything_runs(tmp_path: Path) -> None:
    folder = written(
        tmp_path / "m", f"digest: sha256:{'0' * 64}\n", handler="raise SystemExit('ran')"
    )
    models.linear_onnx(folder / "model.onnx")
    failure = await reason_of(tmp_path, allow_pickle=True)
    assert failure.reason == Reason.DIGEST_MISMATCH
    found = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert found in failure.message


async def test_code_in_a_repository_needs_a_word_for_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", TABLE, handler=PREDICT)
    assert (await reason_of(tmp_path)).reason == Reason.PICKLE_NOT_ALLOWED
    written(folder, f"{TABLE}allow_pickle: true\ndigest: {digest_of(folder)}\n")
    service = Service(settings_of(model_repository=tmp_path, threads=1))
    await service.start()
    assert service.model("m", None).model.format == "Custom"
    service.close()
    (folder / "handler.py").write_text(PREDICT + "# changed\n")
    assert (await reason_of(tmp_path)).reason == Reason.DIGEST_MISMATCH


async def test_a_pickle_is_allowed_by_its_digest(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", "")
    path = models.classifier_joblib(folder / "model.joblib")
    assert (await reason_of(tmp_path)).reason == Reason.PICKLE_NOT_ALLOWED
    text = f"allow_pickle: true\ndigest: {digest_of(path)}\n"
    written(folder, text)
    service = Service(settings_of(model_repository=tmp_path, threads=1))
    await service.start()
    service.close()
    # What the environment states wins.
    refused = await reason_of(tmp_path, allow_pickle=False)
    assert refused.reason == Reason.PICKLE_NOT_ALLOWED


@pytest.mark.parametrize("key", ["dtype: BF16", "compile: {}"])
async def test_a_key_that_could_do_nothing_is_refused(tmp_path: Path, key: str) -> None:
    models.linear_onnx(written(tmp_path / "m", key) / "model.onnx")
    failure = await reason_of(tmp_path)
    assert failure.reason == Reason.INVALID_SETTINGS
    assert "is for torch models" in failure.message


OPTIONAL = (
    "inputs:\n"
    "  - {name: a, dtype: FP32, shape: [-1, 2]}\n"
    "  - {name: b, dtype: FP32, shape: [-1, 2], optional: true, pad_value: 0.5}\n"
    "outputs: [{name: y, dtype: FP32, shape: [-1, 2], labels: [left, right]}]\n"
)


async def test_an_optional_input_is_filled_for_all_rows(tmp_path: Path) -> None:
    models.two_inputs_onnx(written(tmp_path, OPTIONAL) / "model.onnx")
    async with serving(tmp_path) as (client, service):
        body = models.request("a", "FP32", [2, 2], [1, 2, 3, 4])
        answer = await client.post("/v2/models/m/infer", json=body)
        assert answer.json()["outputs"][0]["data"] == [1.5, 2.5, 3.5, 4.5]
        body["inputs"].append({"name": "b", "datatype": "FP32", "shape": [2, 2], "data": [1] * 4})
        answer = await client.post("/v2/models/m/infer", json=body)
        assert answer.json()["outputs"][0]["data"] == [2, 3, 4, 5]
        only_b = {"inputs": body["inputs"][1:]}
        answer = await client.post("/v2/models/m/infer", json=only_b)
        assert answer.json()["error"] == "missing input: 'a'"

        asked = pb.ModelInferRequest(model_name="m")
        asked.inputs.add(name="a", datatype="FP32", shape=[1, 2])
        asked.raw_input_contents.append(np.ones(2, np.float32).tobytes())
        call = Call("r", "grpc", time.perf_counter(), time.monotonic() + 60)
        message = await Servicer(service, lambda _: 0)._answer(asked, call)
        assert np.frombuffer(message.raw_output_contents[0], np.float32).tolist() == [1.5, 1.5]


async def test_labels_name_the_classes(tmp_path: Path) -> None:
    models.two_inputs_onnx(written(tmp_path, OPTIONAL) / "model.onnx")
    async with serving(tmp_path) as (client, _):
        body = models.request("a", "FP32", [1, 2], [1, 2])
        body["outputs"] = [{"name": "y", "parameters": {"classification": 2}}]
        answer = await client.post("/v2/models/m/infer", json=body)
        assert answer.json()["outputs"][0]["data"] == ["2.500000:1:right", "1.500000:0:left"]


async def test_limits_of_the_model_are_its_own(tmp_path: Path) -> None:
    config = (
        "batching: {max_size: 3, max_delay_ms: 7, buckets: [1, 3]}\n"
        "queue: {max_requests: 5, max_bytes: 4096, default_timeout_ms: 1500}\n"
        "warmup: {iterations: 2}\nthreads: 1\n"
    )
    models.linear_onnx(written(tmp_path, config) / "model.onnx")
    async with serving(tmp_path, threads=None) as (_, service):
        served = service.model("m", None)
        limits = served.batcher.limits
        assert (limits.max_rows, limits.max_delay_s, limits.buckets) == (3, 0.007, (1, 3))
        assert (limits.max_queue, limits.max_bytes) == (5, 4096)
        assert served.timeout_s == 1.5


@pytest.mark.parametrize(
    ("kind", "inline"),
    [
        ("numbers", True),
        ("words", False),
        ("code", False),
        pytest.param("process", False, marks=pytest.mark.slow),
    ],
)
async def test_only_what_is_sure_to_be_short_runs_on_the_event_loop(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    inline: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(serving_room, "INLINE_FORWARD_S", 60)
    if kind == "code":
        written(tmp_path, TABLE, handler=PREDICT)
    elif kind == "words":
        models.identity_onnx(tmp_path / "model.onnx", "BYTES", ["batch"])
    else:
        models.linear_onnx(tmp_path / "model.onnx")
    engine = "Process" if kind == "process" else "Thread"
    async with serving(tmp_path, engine=engine) as (_, service):
        assert service.model("m", None).batcher.limits.inline is inline
