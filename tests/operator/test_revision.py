import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.files import Contents, read_files
from modelyard_operator.resources import names
from modelyard_operator.resources.pod_template import build_pod_template
from modelyard_operator.revision import (
    Revision,
    build_controller_revision,
    serving_fields,
    target_revision,
    template_hash,
)
from modelyard_operator.settings import RuntimeCatalogue
from modelyard_operator.spec import SERVING_FIELDS, ModelDeployment
from testkit.crd import apply_defaults, spec_schema
from testkit.operator_objects import EXPOSED, model_deployment, revision_of

SCHEMA = spec_schema()
CATALOGUE = RuntimeCatalogue(torch="torch:1", slim="slim:1")


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


few = st.integers(1, 3)
quantities = st.sampled_from(["1", "2", "500m", "1Gi"])
word = st.sampled_from(["a", "b"])
models = st.fixed_dictionaries(
    {"uri": st.sampled_from(["s3://models/a", "pvc://models/a", "https://h/a.onnx"])},
    optional={
        "name": word,
        "version": word,
        "format": st.sampled_from(["Auto", "ONNX"]),
        "allowPickle": st.booleans(),
        "digest": st.sampled_from(["sha256:" + "0" * 64, None]),
        "includePatterns": st.lists(word, max_size=2),
        "credentialsSecretRef": st.just({"name": "s3"}),
        "caBundleConfigMapRef": st.sampled_from([{"name": "ca"}, {"name": "ca", "key": "ca.crt"}]),
        "inputs": st.lists(st.just({"name": "x", "dtype": "FP32", "shape": [-1, 4]}), max_size=1),
    },
)
sources = st.sampled_from([{"configMapName": "hooks", "key": key} for key in ("a", "b")])
config_maps = st.fixed_dictionaries({"hooks": st.fixed_dictionaries({"a": word, "b": word})})
serving = st.fixed_dictionaries(
    {"model": models},
    optional={
        "serviceAccountName": word,
        "runtime": maybe(
            image=st.sampled_from(["own:1", "torch:1"]),
            device=st.sampled_from(["Auto", "CPU"]),
            args=st.lists(word, max_size=2),
            env=st.sampled_from([[], [{"name": "A", "value": "1"}]]),
            batching=maybe(
                maxBatchSize=st.sampled_from([32, 64]),
                targetLatencyMilliseconds=few,
                buckets=st.sampled_from([[], [4, 8], [8, 4]]),
            ),
            concurrency=maybe(threads=st.sampled_from([None, 1])),
            timeouts=maybe(
                drainSeconds=st.sampled_from([45, 60]),
                startupSeconds=few,
                streamIdleSeconds=st.sampled_from([60, 9]),
            ),
            handlerRef=sources,
            warmup=maybe(requests=st.lists(sources, max_size=2), iterations=few),
        ),
        "resources": maybe(
            requests=st.dictionaries(st.just("cpu"), quantities), limits=st.just({})
        ),
        "accelerator": maybe(count=few, products=st.lists(word, max_size=2)),
        "scheduling": maybe(nodeSelector=st.dictionaries(word, word), priorityClassName=word),
        "podTemplate": maybe(metadata=st.sampled_from([{}, {"labels": {"team": "x"}}])),
        "rollout": maybe(
            verification=st.fixed_dictionaries(
                {"requests": st.lists(sources, min_size=1, max_size=2)},
                optional={"relativeTolerance": st.sampled_from(["1e-3", "0.001", "0.1"])},
            )
        ),
        "exposure": maybe(auth=maybe(secretName=st.sampled_from(["fraud-auth", "own"]))),
    },
)
"""Everything that reaches the pod template."""
tracing = {"otlpEndpoint": "http://otel:4318"}
others = maybe(
    replicas=few,
    suspend=st.booleans(),
    exposure=maybe(
        **{name: st.just(value) for name, value in EXPOSED.items()},
        rateLimit=st.just({"requestsPerSecond": 9}),
        auth=st.sampled_from([{"type": "APIKey"}, {"type": "JWT", "issuer": "https://id"}]),
    ),
    rollout=maybe(bakeSeconds=few, paused=st.booleans()),
    observability=maybe(
        tracing=st.just(tracing), audit=st.just({"mode": "Metadata"}), accessLog=st.just({})
    ),
    podDisruptionBudget=st.just({"maxUnavailable": 2}),
    scaling=st.just({"maxReplicas": 2, "metrics": []}),
)


def template_of(owner: ModelDeployment, files: Contents | None = None) -> str:
    """The template that spec and files lead to, as bytes would be compared."""
    return json.dumps(revision(owner, files).template, sort_keys=True)


def revision(
    owner: ModelDeployment,
    files: Contents | None = None,
    *,
    history: Iterable[Revision] = (),
    catalogue: RuntimeCatalogue = CATALOGUE,
) -> Revision:
    return target_revision(owner, history, catalogue=catalogue, files=files or {})


def hash_of(owner: ModelDeployment, files: Contents | None = None) -> str:
    return template_hash(owner, files or {})


def merged(one: Any, two: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(two, dict):
        return two
    return one | {key: merged(one.get(key), value) for key, value in two.items()}


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(
    specs=st.tuples(serving, serving) | serving.map(lambda one: (one, one)),
    maps=st.tuples(config_maps, config_maps),
)
def test_equal_hash_means_equal_template_and_files(
    specs: tuple[dict[str, Any], ...], maps: tuple[dict[str, Contents], ...]
) -> None:
    owners = [model_deployment(**spec) for spec in specs]
    files = [read_files(owner.spec, given) for owner, given in zip(owners, maps, strict=True)]
    (first, first_files), (second, second_files) = zip(owners, files, strict=True)
    same_hash = hash_of(first, first_files) == hash_of(second, second_files)
    assert same_hash == (template_of(first, first_files) == template_of(second, second_files))
    names_of_both = {revision(first, first_files).name, revision(second, second_files).name}
    assert same_hash == (len(names_of_both) == 1)
    assert not same_hash or first_files == second_files


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(spec=serving)
def test_an_explicit_default_is_no_edit(spec: dict[str, Any]) -> None:
    bare, filled = model_deployment(**spec), apply_defaults(SCHEMA, spec)
    stored = model_deployment(**filled)
    assert hash_of(bare) == hash_of(stored)
    assert template_of(bare) == template_of(stored)
    assert serving_fields(bare.spec) == serving_fields(stored.spec)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(spec=serving, one=others, two=others)
def test_only_serving_fields_reach_the_template(
    spec: dict[str, Any], one: dict[str, Any], two: dict[str, Any]
) -> None:
    first, second = (model_deployment(**merged(other, spec)) for other in (one, two))
    assert template_of(first) == template_of(second)
    assert serving_fields(first.spec) == serving_fields(second.spec)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(spec=serving, maps=config_maps)
def test_a_revision_survives_its_record(spec: dict[str, Any], maps: dict[str, Contents]) -> None:
    owner = model_deployment(**spec)
    files = read_files(owner.spec, maps)
    first = revision(owner, files)
    record = json.loads(json.dumps(build_controller_revision(owner, first)))
    again = Revision.from_manifest(record)
    assert again == first
    newer = RuntimeCatalogue("new:2", "new:2")
    assert revision(owner, files, history=[again], catalogue=newer) == first
    assert first.startup_seconds == owner.spec.runtime.timeouts.startup_seconds


@pytest.mark.parametrize(
    "edit",
    [
        {"model": {"uri": "s3://models/other"}},
        {"serviceAccountName": "x"},
        {"runtime": {"args": ["-v"]}},
        {"resources": {"limits": {"memory": "2Gi"}}},
        {"accelerator": {"count": 2}},
        {"scheduling": {"nodeSelector": {"a": "b"}}},
        {"podTemplate": {"metadata": {"labels": {"a": "b"}}}},
        {"exposure": {"auth": {"secretName": "own"}}},
        {"rollout": {"verification": {"requests": [{"configMapName": "a", "key": "b"}]}}},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_each_serving_field_makes_a_revision(edit: dict[str, Any]) -> None:
    assert hash_of(model_deployment(**edit)) != hash_of(model_deployment())


def test_an_edit_of_a_file_makes_a_revision_and_taking_it_back_finds_the_old_one() -> None:
    owner = model_deployment(runtime={"handlerRef": {"configMapName": "hooks", "key": "a"}})
    old = revision(owner, {"handler.py": "x = 1"})
    new = revision(owner, {"handler.py": "x = 2"}, history=[old])
    assert (new.number, new.name != old.name) == (2, True)
    assert revision(owner, {"handler.py": "x = 1"}, history=[old, new]) is old


def test_the_same_number_in_other_words_is_no_edit() -> None:
    def verified(tolerance: str) -> ModelDeployment:
        requests = [{"configMapName": "a", "key": "b"}]
        return model_deployment(
            rollout={"verification": {"requests": requests, "relativeTolerance": tolerance}}
        )

    old = revision(verified("1e-3"))
    assert revision(verified("0.001"), history=[old]) is old


def test_every_serving_field_is_tried() -> None:
    camel = {re.sub(r"_(.)", lambda found: found[1].upper(), name) for name in SERVING_FIELDS}
    assert camel == {
        "model",
        "serviceAccountName",
        "runtime",
        "resources",
        "accelerator",
        "scheduling",
        "podTemplate",
    }


def test_an_upgrade_moves_nothing_that_nobody_edited() -> None:
    owner = model_deployment()
    old = revision(owner)
    rendered_otherwise = Revision(old.name, 4, old.version, old.serving, {"spec": "older"})
    assert revision(owner, history=[rendered_otherwise]) is rendered_otherwise


def test_a_record_of_a_newer_operator_is_known_by_its_name() -> None:
    owner = model_deployment()
    name = revision(owner).name
    newer = Revision(name, 7, "8", {"model": {"shards": 4}}, {})
    stranger = Revision("fraud-00000000", 9, "8", {"model": {"shards": 4}}, {})
    assert revision(owner, history=[stranger, newer]) is newer
    assert revision(owner, history=[stranger]).number == 10


def test_versions_default_to_the_hash() -> None:
    owner = model_deployment()
    assert revision(owner).version == hash_of(owner)
    named = model_deployment(model={"uri": "s3://a/b", "version": "8"})
    assert revision(named).version == "8"


def test_a_template_that_cannot_be_built_is_an_error_of_the_spec() -> None:
    with pytest.raises(InvalidSpecError, match=r"podTemplate\.spec\.hostNetwork"):
        revision(model_deployment(podTemplate={"spec": {"hostNetwork": True}}))


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?", fullmatch=True))
def test_names_fit_where_they_are_used(name: str) -> None:
    made = names.revision(name, "0" * 8)
    every = [made, names.directives(made), names.files(made), names.cluster_service(name)]
    every += [names.ingress(name), names.canary_ingress(name)]
    of_grpc = {names.grpc_ingress(name), names.grpc_canary_ingress(name)}
    assert len({*every, *of_grpc}) == 7
    for one in of_grpc:
        # A ModelDeployment's name is a label without dots, so that none has these.
        assert re.fullmatch(rf"{name}[.][a-z]([-a-z]*[a-z])?", one)
    for one in every:
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", one)
    # A Service and a label value take 63 characters, a ConfigMap 253.
    assert max(map(len, (made, names.canary_ingress(name)))) <= 63


def test_sidecars_live_under_the_same_rules() -> None:
    owner = model_deployment(
        podTemplate={"spec": {"containers": [{"name": "proxy", "image": "x"}]}}
    )
    template = build_pod_template(owner, {}, image="i", pull_policy="p", revision="r", version="v")
    contexts = [one["securityContext"] for one in template["spec"]["containers"]]
    assert contexts[0] == contexts[1]
    assert contexts[1]["readOnlyRootFilesystem"] is True
    assert revision_of(owner).template["spec"]["containers"][1]["name"] == "proxy"
