import pytest

from modelyard_operator.files import (
    LIMIT_BYTES,
    Contents,
    FilesTooLargeError,
    ReferenceNotFoundError,
    config_map_names,
    files_hash,
    read_files,
)
from testkit.operator_objects import model_deployment

SPEC = model_deployment(
    runtime={
        "handlerRef": {"configMapName": "hooks", "key": "fraud.py"},
        "warmup": {"requests": [{"configMapName": "golden", "key": key} for key in ("b", "a")]},
    },
    rollout={"verification": {"requests": [{"configMapName": "more", "key": "a"}]}},
).spec
HELD: dict[str, Contents | None] = {
    "hooks": {"fraud.py": "x = 1", "README": "no file of this model"},
    "golden": {"a": "A", "b": "B"},
    "more": {"a": "C"},
}


def test_files_have_names_of_their_own_in_the_order_of_the_spec() -> None:
    assert read_files(SPEC, HELD) == {
        "handler.py": "x = 1",
        "warmup-0.json": "B",
        "warmup-1.json": "A",
        "verification-0.json": "C",
    }
    assert config_map_names(SPEC) == {"hooks", "golden", "more"}


def test_a_spec_without_files_needs_no_config_map() -> None:
    bare = model_deployment().spec
    assert (config_map_names(bare), read_files(bare, {})) == (frozenset(), {})


@pytest.mark.parametrize(
    ("changed", "field", "message"),
    [
        (
            {"hooks": None},
            "spec.runtime.handlerRef",
            "expected a ConfigMap 'hooks' with the key 'fraud.py', got no such ConfigMap",
        ),
        (
            {"golden": {"b": "B", "c": "C"}},
            "spec.runtime.warmup.requests[1]",
            "expected the key 'a' as text in ConfigMap 'golden', got the keys: 'b', 'c'",
        ),
        (
            {"more": {}},
            "spec.rollout.verification.requests[0]",
            "expected the key 'a' as text in ConfigMap 'more', got the keys: none",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_field(
    changed: dict[str, Contents | None], field: str, message: str
) -> None:
    with pytest.raises(ReferenceNotFoundError) as raised:
        read_files(SPEC, HELD | changed)
    assert str(raised.value) == f"{field}: {message}"
    assert not raised.value.permanent  # whoever creates it makes it whole
    assert "same namespace" in raised.value.hint


def test_a_config_map_that_nobody_has_looked_up_is_missing() -> None:
    with pytest.raises(ReferenceNotFoundError):
        read_files(SPEC, {})


def test_files_fit_into_one_object() -> None:
    most = "é" * ((LIMIT_BYTES - len("x = 1AB")) // 2)  # two bytes each, and one is left over
    assert read_files(SPEC, HELD | {"more": {"a": most + "e"}})
    with pytest.raises(FilesTooLargeError, match=f"at most {LIMIT_BYTES} bytes .*got 700001"):
        read_files(SPEC, HELD | {"more": {"a": most + "é"}})


def test_the_hash_stands_for_names_and_contents() -> None:
    hashes = [
        files_hash(files)
        for files in ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "1"}, {"b": "1"})
    ]
    assert len(set(hashes)) == 4
    assert files_hash({"b": "2", "a": "1"}) == hashes[0]
