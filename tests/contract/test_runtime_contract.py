"""The operator's pods and the runtime's settings, held to docs/reference/runtime-contract.md.

The two packages never import each other; here both are imported, and compared.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from modelyard_operator import runtime_contract as contract
from modelyard_operator.files import Contents, read_files
from modelyard_operator.resources.config_maps import build_files
from modelyard_operator.resources.directives import Copies, directives_hash, render_directives
from modelyard_operator.resources.pod_template import DRAIN_MARGIN_S
from modelyard_operator.revision import Revision
from modelyard_operator.spec import ModelFormat
from modelyard_runtime.config import _SETTINGS
from modelyard_runtime.directives import Directives
from modelyard_runtime.errors import Reason
from modelyard_runtime.settings import Device, FetchSettings, RuntimeSettings
from modelyard_runtime.settings import ModelFormat as RuntimeFormat
from testkit.crd import ROOT
from testkit.operator_objects import model_deployment, revision_of

PAGE = (ROOT / "docs" / "reference" / "runtime-contract.md").read_text()
PREFIX = "MODELYARD_"
FULL: dict[str, Any] = {
    "model": {
        "uri": "pvc://models/fraud",
        "name": "fraud-2",
        "version": "8",
        "digest": "sha256:" + "a" * 64,
        "format": "TorchExport",
        "allowPickle": True,
        "endpointURL": "https://minio.corp:9000",
        "includePatterns": ["*.pt2", "labels/*"],
        "caBundleConfigMapRef": {"name": "ca"},
        "credentialsSecretRef": {"name": "s3"},
        "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 30]}],
        "outputs": [{"name": "y", "dtype": "BYTES", "shape": []}],
    },
    "runtime": {
        "device": "CUDA",
        "handlerRef": {"configMapName": "hooks", "key": "fraud.py"},
        "batching": {
            "maxBatchSize": 7,
            "maxDelayMilliseconds": 3,
            "maxQueueSize": 9,
            "targetLatencyMilliseconds": 25,
            "buckets": [7, 4],
        },
        "concurrency": {"maxInFlightPerReplica": 11, "threads": 2},
        "timeouts": {
            "requestSeconds": 5,
            "streamIdleSeconds": 6,
            "startupSeconds": 60,
            "drainSeconds": 20,
        },
        "warmup": {
            "requests": [{"configMapName": "golden", "key": key} for key in ("one", "two")],
            "iterations": 8,
        },
    },
    "rollout": {
        "verification": {
            "requests": [{"configMapName": "golden", "key": "three"}],
            "relativeTolerance": "1e-2",
        }
    },
    "exposure": {
        "path": "/models/fraud/",
        "maxBodyBytes": 77,
        "auth": {
            "type": "JWT",
            "issuer": "https://id.corp",
            "audiences": ["fraud"],
            "jwksURI": "https://id.corp/keys",
        },
        "rateLimit": {"requestsPerSecond": 5, "burst": 6, "concurrency": 7},
    },
    "observability": {
        "tracing": {"otlpEndpoint": "http://otel:4318", "samplingRatio": "0.05"},
        "audit": {
            "mode": "Payload",
            "sink": "/tmp/audit",  # noqa: S108 - a path in the pod
            "samplingRatio": "0.5",
            "redact": ["card_*"],
        },
        "accessLog": {"samplingRatio": "1e-2"},
    },
}
CONFIG_MAPS: dict[str, Contents] = {
    "hooks": {"fraud.py": "def postprocess(outputs): return outputs"},
    "golden": {"one": "{}", "two": "{}", "three": "[]"},
}
OWNER = model_deployment(**FULL)
FILES = read_files(OWNER.spec, CONFIG_MAPS)
REVISIONS = {"full": revision_of(OWNER, FILES), "bare": revision_of(model_deployment())}


def container(revision: Revision, name: str) -> dict[str, Any]:
    pod = revision.template["spec"]
    (found,) = [one for one in (*pod["initContainers"], *pod["containers"]) if one["name"] == name]
    made: dict[str, Any] = found
    return made


def environment(revision: Revision, name: str) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(revision, name)["env"]}


def mounts(revision: Revision, name: str) -> dict[str, bool]:
    found = container(revision, name)["volumeMounts"]
    return {one["mountPath"]: bool(one.get("readOnly")) for one in found}


def section(title: str) -> str:
    """The text below a heading of the page, up to the next one."""
    found = re.search(
        rf"^#+ {re.escape(title)}.*?$(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    assert found is not None, title
    return found[1]


def variables(text: str) -> set[str]:
    return set(re.findall(r"MODELYARD_[A-Z_]+", text))


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


def test_ports_and_probes() -> None:
    runtime = container(REVISIONS["bare"], "runtime")
    ports = {one["name"]: one["containerPort"] for one in runtime["ports"]}
    assert ports == {
        "http": contract.HTTP_PORT,
        "grpc": contract.GRPC_PORT,
        "metrics": contract.METRICS_PORT,
    }
    for name, port in ports.items():
        assert f"| {port} | `{name}` |" in section("Ports")
    probes = {one: runtime[f"{one}Probe"]["httpGet"]["path"] for one in ("startup", "liveness")}
    assert set(probes.values()) == {contract.LIVE_PATH}
    assert runtime["readinessProbe"]["httpGet"]["path"] == contract.READY_PATH
    for path in (contract.LIVE_PATH, contract.READY_PATH):
        assert f"`GET :8080{path}`" in section("Ports")
    source = (ROOT / "runtime" / "modelyard_runtime" / "api" / "health.py").read_text()
    assert {"/health/live", "/health/ready"} <= set(re.findall(r'"(/health/[a-z]+)"', source))


@pytest.mark.parametrize(("name", "module"), [("runtime", "serve"), ("model-fetch", "fetch")])
def test_the_commands_exist(name: str, module: str) -> None:
    command = container(REVISIONS["bare"], name)["command"]
    assert f"`{' '.join(command)}`" in section("The pod")
    package = ROOT / "runtime" / "modelyard_runtime"
    if module == "fetch":
        assert (package / "fetch" / "__main__.py").exists() or (package / "fetch.py").exists()
    else:
        assert "serve" in (package / "__main__.py").read_text()


def test_paths() -> None:
    runtime, fetch = mounts(REVISIONS["full"], "runtime"), mounts(REVISIONS["full"], "model-fetch")
    assert runtime == {
        "/models": True,
        "/tmp": False,  # noqa: S108 - mount points in the pod
        "/dev/shm": False,  # noqa: S108
        "/etc/modelyard/directives": True,
        "/etc/modelyard/files": True,
        "/etc/modelyard/keys": True,
        "/mnt/claim": True,
    }
    assert fetch == {
        "/models": False,
        "/tmp": False,  # noqa: S108
        "/etc/modelyard/ca": True,
        "/mnt/claim": True,
    }
    for path in {*runtime, *fetch}:
        assert path in section("The pod"), path
    pod = REVISIONS["full"].template["spec"]
    assert pod["securityContext"]["runAsUser"] == contract.USER_ID
    assert f"the user is {contract.USER_ID}" in section("The pod")
    for one in (*pod["initContainers"], *pod["containers"]):
        assert one["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_secret_of_keys_is_optional() -> None:
    named = model_deployment(exposure={"auth": {"secretName": "own"}})
    for owner, secret in ((model_deployment(), "fraud-auth"), (named, "own")):
        volumes = revision_of(owner).template["spec"]["volumes"]
        (keys,) = [one["secret"] for one in volumes if one["name"] == "keys"]
        assert (keys["secretName"], keys["optional"]) == (secret, True)
    assert "`exposure.auth.secretName`, else `<name>-auth`; optional" in section("The pod")


def test_credentials_reach_model_fetch_only() -> None:
    secret = [{"secretRef": {"name": "s3"}}]
    assert container(REVISIONS["full"], "model-fetch")["envFrom"] == secret
    assert "envFrom" not in container(REVISIONS["full"], "runtime")


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


def test_the_runtime_reads_the_directives_that_the_operator_writes() -> None:
    text = render_directives(OWNER, "Report")
    assert Directives.model_validate_json(text).model_dump(by_alias=True, mode="json") == {
        "pathPrefix": "/models/fraud",
        "maxBodyBytes": 77,
        "auth": FULL["exposure"]["auth"],
        "rateLimit": FULL["exposure"]["rateLimit"],
        "audit": FULL["observability"]["audit"] | {"samplingRatio": 0.5},
        "accessLog": {"samplingRatio": 0.01},
        "tracing": FULL["observability"]["tracing"] | {"samplingRatio": 0.05},
        "verification": "Report",
        # Nothing is compared.
        "shadow": None,
        "shadowToken": "",
    }
    assert Directives.model_validate_json(render_directives(model_deployment())) == Directives()
    assert directives_hash(OWNER, "Report") == hashlib.sha256(text.encode()).hexdigest()[:16]


SENDS = Copies("t0ken", "http://fraud-91ab44d0.ml.svc", 10)
TAKES = Copies("t0ken")


def test_both_sides_of_a_comparison_are_told_of_the_copies() -> None:
    sender = Directives.model_validate_json(render_directives(OWNER, copies=SENDS))
    receiver = Directives.model_validate_json(render_directives(OWNER, copies=TAKES))
    assert sender.shadow is not None
    assert (str(sender.shadow.url), sender.shadow.percent) == (SENDS.url, 10)
    assert sender.shadow.token == receiver.shadow_token == TAKES.token
    assert (sender.shadow_token, receiver.shadow) == ("", None)
    assert len({directives_hash(OWNER, None, side) for side in (None, SENDS, TAKES)}) == 3


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a part of the directives, by the name that the file has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def test_each_directive_that_is_written_is_read() -> None:
    sides = (render_directives(OWNER, "Gate", side) for side in (SENDS, TAKES))
    written = {key for text in sides for key in json.loads(text)}
    assert written == set(_keys(Directives))


def test_the_page_lists_each_directive_with_its_keys() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section("Directives"), re.MULTILINE))
    assert set(rows) == set(_keys(Directives))
    for name, field in _keys(Directives).items():
        parts = (field.annotation, *get_args(field.annotation))
        for part in parts:
            if isinstance(part, type) and issubclass(part, BaseModel):
                assert {key for key in _keys(part) if f'"{key}"' not in rows[name]} == set()
