"""The operator's pods and the runtime's settings, held to docs/reference/runtime-contract.md.

The two packages never import each other; here both are imported, and compared.
"""

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic_settings import BaseSettings

from modelyard_operator import runtime_contract as contract
from modelyard_operator.resources.config_maps import build_files
from modelyard_operator.resources.pod_template import DRAIN_MARGIN_S
from modelyard_operator.revision import Revision
from modelyard_operator.spec import ModelFormat
from modelyard_runtime.config import _SETTINGS
from modelyard_runtime.errors import Reason
from modelyard_runtime.settings import Device, FetchSettings, RuntimeSettings
from modelyard_runtime.settings import ModelFormat as RuntimeFormat
from testkit.contract_pods import (
    CONFIG_MAPS,
    OWNER,
    PAGE,
    REVISIONS,
    environment,
    section,
    variables,
)

PREFIX = "MODELYARD_"


def settings_of(program: type[BaseSettings], values: dict[str, str]) -> BaseSettings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        return program()


NOT_SET_IN_PODS = {
    "runtime": {"MODELYARD_MODEL_PATH"},  # a developer's option
    "model-fetch": set(),
}
SIDES = [
    (RuntimeSettings, "runtime", "Environment of `runtime`"),
    (FetchSettings, "model-fetch", "Environment of `model-fetch`"),
]


@pytest.mark.parametrize(("program", "name", "title"), SIDES, ids=["runtime", "model-fetch"])
@pytest.mark.parametrize("revision", REVISIONS.values(), ids=REVISIONS)
def test_each_variable_of_the_pod_is_a_setting_and_on_the_page(
    program: type[BaseSettings], name: str, title: str, revision: Revision
) -> None:
    given = set(environment(revision, name))
    fields = {f"{PREFIX}{field.upper()}" for field in program.model_fields}
    assert given - fields == set()
    assert given - variables(section(title)) == set()


@pytest.mark.parametrize(("program", "name", "title"), SIDES, ids=["runtime", "model-fetch"])
def test_each_variable_of_the_page_is_a_setting(
    program: type[BaseSettings], name: str, title: str
) -> None:
    fields = {f"{PREFIX}{field.upper()}" for field in program.model_fields}
    assert variables(section(title)) - fields == set(), name
    assert fields - variables(section(title)) <= NOT_SET_IN_PODS[name]


def test_the_runtime_reads_what_the_operator_writes() -> None:
    values = environment(REVISIONS["full"], "runtime")
    read = settings_of(RuntimeSettings, values).model_dump(mode="json", exclude_none=True)
    assert read == {
        "model_name": "fraud-2",
        "model_version": "8",
        "revision": REVISIONS["full"].name,
        "model_repository": "/models",
        "model_format": "TorchExport",
        "allow_pickle": True,
        "device": "CUDA",
        "max_batch_size": 7,
        "max_delay_ms": 3.0,
        "max_queue_size": 9,
        "max_in_flight": 11,
        "target_latency_ms": 25.0,
        "buckets": [4, 7],
        "threads": 2,
        "request_timeout_s": 5.0,
        "startup_timeout_s": 60.0,
        "drain_timeout_s": 20.0,
        "stream_idle_s": 6.0,
        "model_inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 30]}],
        "model_outputs": [{"name": "y", "dtype": "BYTES", "shape": []}],
        "handler_file": "/etc/modelyard/files/handler.py",
        "warmup_files": [f"/etc/modelyard/files/warmup-{number}.json" for number in (0, 1)],
        "warmup_iterations": 8,
        "verification_files": ["/etc/modelyard/files/verification-0.json"],
        "verification_tolerance": 0.01,
        "keys_dir": "/etc/modelyard/keys",
        "control": "none",
        "directives_file": "/etc/modelyard/directives/directives.json",
        "termination_log": "/dev/termination-log",
        "http_host": "0.0.0.0",  # noqa: S104 - what the page says
        "http_port": 8080,
        "grpc_port": 8081,
        "metrics_port": 8082,
        # No field of the spec sets these.
        "max_queue_bytes": 268435456,
        "engine": "Auto",
        "http_workers": 1,
        "optimize": "Auto",
    }


def test_the_files_that_the_runtime_is_told_of_are_there() -> None:
    values = environment(REVISIONS["full"], "runtime")
    read = settings_of(RuntimeSettings, values).model_dump()
    told = (read["handler_file"], *read["warmup_files"], *read["verification_files"])
    held = build_files(OWNER, REVISIONS["full"])["data"]
    assert {str(path) for path in told} == {f"{contract.FILES_DIR}/{name}" for name in held}
    assert held["handler.py"] == CONFIG_MAPS["hooks"]["fraud.py"]


def test_model_fetch_reads_what_the_operator_writes() -> None:
    values = environment(REVISIONS["full"], "model-fetch")
    read = settings_of(FetchSettings, values).model_dump(mode="json")
    assert read == {
        "model_name": "fraud-2",
        "model_version": "8",
        "revision": REVISIONS["full"].name,
        "model_repository": "/models",
        "metrics_port": 8082,
        "termination_log": "/dev/termination-log",
        "model_uri": "pvc://models/fraud",
        "model_digest": "sha256:" + "a" * 64,
        "endpoint_url": "https://minio.corp:9000",
        "include_patterns": ["*.pt2", "labels/*"],
        "ca_bundle": "/etc/modelyard/ca/ca.crt",
        "claim_path": "/mnt/claim",
    }


def test_what_the_spec_leaves_out_is_the_runtime_s_own_default() -> None:
    revision = REVISIONS["bare"]
    given = settings_of(RuntimeSettings, environment(revision, "runtime")).model_dump()
    own = settings_of(RuntimeSettings, {"MODELYARD_MODEL_NAME": "fraud"}).model_dump()
    differing = {name for name in own if own[name] != given[name]}
    assert differing == {"model_version", "revision", "directives_file", "keys_dir"}


def test_what_the_spec_leaves_out_is_left_to_the_artifact_s_model_yaml() -> None:
    given = {
        name.removeprefix(PREFIX).lower() for name in environment(REVISIONS["bare"], "runtime")
    }
    stated = set(_SETTINGS.values()) & given
    # What is not left to an artifact: whether it may run code, and how long callers wait.
    limits = {"request_timeout_s", "stream_idle_s"}
    assert stated == {"allow_pickle", "device", "model_format", *limits}


def _defaults() -> Iterator[tuple[str, str]]:
    for line in section("Environment of `runtime`").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = variables(cells[0])
        values = re.findall(r"`([^`]*)`", cells[-1])
        if len(cells) == 3 and names and len(names) == len(values):
            ordered = re.findall(r"MODELYARD_[A-Z_]+", cells[0])
            yield from zip(ordered, values, strict=True)


def test_the_page_s_defaults_are_the_runtime_s() -> None:
    said = dict(_defaults())
    assert len(said) > 12
    own = settings_of(RuntimeSettings, {"MODELYARD_MODEL_NAME": "x"})
    told = settings_of(RuntimeSettings, said | {"MODELYARD_MODEL_NAME": "x"})
    assert own == told


def test_the_kubelet_waits_for_the_runtime_to_drain() -> None:
    pod = REVISIONS["full"].template["spec"]
    drain = settings_of(RuntimeSettings, environment(REVISIONS["full"], "runtime"))
    assert pod["terminationGracePeriodSeconds"] == drain.model_dump()["drain_timeout_s"] + (
        DRAIN_MARGIN_S
    )
    assert DRAIN_MARGIN_S > 0


def test_reasons_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| `([A-Za-z]+)` \| (fetch|runtime|both) \|", PAGE, re.MULTILINE)
    assert {name for name, _ in rows} == {reason.value for reason in Reason}


def test_formats_and_devices_are_the_same_words() -> None:
    assert set(get_args(ModelFormat)) == set(get_args(RuntimeFormat))
    words = section("Environment of `runtime`")
    for word in (*get_args(ModelFormat), *get_args(Device)):
        assert f"`{word}`" in words
