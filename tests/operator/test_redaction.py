import json

import pytest

from modelyard_operator.failures import find_failure
from modelyard_operator.failures.redaction import redact
from testkit.operator_objects import model_deployment, observe, pod, revision_of


@pytest.mark.parametrize(
    "text",
    [
        "cannot open https://anna:hunter2@models.example.com/x",
        "GET https://h/x.pt?X-Amz-Signature=hunter2&X=1 failed",
        "Authorization: Bearer hunter2hunter2",
        "password=hunter2",
        "AWS_SECRET_ACCESS_KEY: hunter2",
        '{"token": "hunter2"}',
        "api-key = 'hunter2'",
    ],
)
def test_secrets_do_not_stay(text: str) -> None:
    assert "hunter2" not in redact(text)
    assert "…" in redact(text)


@pytest.mark.parametrize(
    "key",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "hf_abcdefghijklmnopqrst",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
def test_keys_give_themselves_away(key: str) -> None:
    assert redact(f"refused: {key}.") == "refused: …."


@pytest.mark.parametrize(
    "text",
    [
        'secret "s3" not found',
        "spec.model.credentialsSecretRef: expected a name, got ''",
        "the files have sha256:aa, spec.model.digest is sha256:bb",
        "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        "no file at s3://models/fraud/8",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_nothing_of_a_last_word_is_shown_unredacted() -> None:
    owner = model_deployment()
    revision = revision_of(owner).name
    word = json.dumps({"reason": "InvalidHandler", "message": "password=hunter2", "hint": "h"})
    terminated = {"exitCode": 1, "reason": "Error", "message": word}
    status = {"name": "runtime", "image": "i", "restartCount": 0}
    shown = pod(revision, containerStatuses=[status | {"state": {"terminated": terminated}}])
    failure = find_failure(observe(owner, shown).view(revision))
    assert failure is not None
    assert "hunter2" not in json.dumps(failure.to_status())
    assert "hunter2" not in failure.message
