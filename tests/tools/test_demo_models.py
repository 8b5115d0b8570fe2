import hashlib
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import numpy as np
import pytest
import yaml

from demo.checks import MIN_AGREEMENT
from demo.cluster import explain
from demo.digits import split
from demo.images import builds_of
from demo.models import read_report
from demo.options import Options, stays
from demo.rollout import MARGIN_S, SETTLE_S
from demo.story import with_digest

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples" / "digits"


def _manifest(name: str) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    return manifest


def test_an_update_edits_the_model_and_nothing_else() -> None:
    first, second = _manifest("v1.yaml"), _manifest("v2.yaml")
    models = [item["spec"].pop("model") for item in (first, second)]
    assert first == second
    changed = {key for key in models[0] if models[0][key] != models[1][key]}
    assert changed == {"version", "uri"}


def test_the_broken_version_differs_by_its_handler_and_is_not_compared_first() -> None:
    second = _manifest("v2.yaml")
    handler, third = yaml.safe_load_all((EXAMPLES / "v3.yaml").read_text())
    reference = third["spec"]["runtime"].pop("handlerRef")
    assert reference == {"configMapName": handler["metadata"]["name"], "key": "handler.py"}
    assert third["spec"]["model"].pop("version") == "3"
    del second["spec"]["model"]["version"]
    del second["spec"]["rollout"]["shadow"]
    assert third == second


def test_the_broken_handler_fails_for_about_every_sixth_digit() -> None:
    handler, _ = yaml.safe_load_all((EXAMPLES / "v3.yaml").read_text())
    namespace: dict[str, Any] = {}
    exec(handler["data"]["handler.py"], namespace)  # noqa: S102 - as the runtime does
    context = Mock()
    _, held_out = split()
    failed = 0
    for image in held_out.images:
        request = Mock(inputs={"image": image[np.newaxis]})
        try:
            namespace["preprocess"](request, context)
        except IndexError:
            failed += 1
    assert failed / len(held_out.images) == pytest.approx(1 / 6, abs=0.02)


def test_every_step_fits_more_than_a_thousand_requests_at_the_default_rate() -> None:
    rollout = _manifest("v2.yaml")["spec"]["rollout"]
    # The step to 100 bakes only where it says so itself.
    assert rollout["steps"][-1]["bakeSeconds"] == rollout["bakeSeconds"]
    counted_s = rollout["bakeSeconds"] - SETTLE_S - MARGIN_S
    assert counted_s * Options().rate >= 1500


def test_the_comparison_is_held_to_what_the_demo_promises() -> None:
    shadow = _manifest("v2.yaml")["spec"]["rollout"]["shadow"]
    assert float(shadow["minAgreement"]) == MIN_AGREEMENT


def test_held_out_digits_are_never_trained_on() -> None:
    train, held_out = split()
    assert (len(train.images), len(held_out.images)) == (1297, 500)
    seen = {image.tobytes() for image in train.images}
    assert not [image for image in held_out.images if image.tobytes() in seen]
    again, _ = split()
    assert (again.images == train.images).all()


@pytest.mark.torch
@pytest.mark.slow
def test_the_models_keep_the_promises_that_the_demo_makes(tmp_path: Path) -> None:
    from demo.training import train_all  # noqa: PLC0415 - torch

    trained = train_all(tmp_path)
    assert read_report(tmp_path) == trained
    first, second, sklearn = trained
    assert first.accuracy >= 0.92
    assert second.accuracy >= first.accuracy + 0.03
    assert sklearn.accuracy >= 0.95
    digest = hashlib.sha256((tmp_path / sklearn.key).read_bytes()).hexdigest()
    # The manifest is applied as it is, unless another scikit-learn or numpy writes other bytes.
    assert _manifest("sklearn.yaml")["spec"]["model"]["digest"] == f"sha256:{digest}"


def test_another_digest_changes_nothing_else_in_the_manifest() -> None:
    text = (EXAMPLES / "sklearn.yaml").read_text()
    before, after = yaml.safe_load(text), yaml.safe_load(with_digest(text, f"sha256:{'0' * 64}"))
    assert after["spec"]["model"].pop("digest") == f"sha256:{'0' * 64}"
    del before["spec"]["model"]["digest"]
    assert before == after


@pytest.mark.parametrize(
    ("asked", "created", "interactive", "kept"),
    [
        (None, True, True, True),
        (None, True, False, False),
        (None, False, False, True),
        (True, True, False, True),
        (False, False, True, False),
    ],
)
def test_what_was_made_for_nobody_goes(
    *, asked: bool | None, created: bool, interactive: bool, kept: bool
) -> None:
    assert stays(asked=asked, created=created, interactive=interactive) is kept


def test_images_come_in_the_order_in_which_the_story_needs_them() -> None:
    builds = builds_of(Options(torch_index_url="https://wheels.example.com/cpu"))
    assert list(builds) == ["operator", "slim", "torch"]
    assert builds["torch"].name == "docker.io/modelyard/runtime:dev-torch"
    assert builds["torch"].build_args == {"TORCH_INDEX_URL": "https://wheels.example.com/cpu"}
    assert builds["slim"].target == "slim"


def test_a_model_that_is_not_ready_is_explained() -> None:
    ready = {"type": "Ready", "reason": "NoReplicas", "message": "0 of 2 ready"}
    assert explain({"conditions": [ready]}) == "NoReplicas: 0 of 2 ready"
    failure = {"reason": "ArtifactNotFound", "message": "no such key", "hint": "Check the URI."}
    assert explain({"failure": failure}) == "ArtifactNotFound: no such key (Check the URI.)"
    assert "operator" in explain({})
