"""The directives that the operator writes, as the runtime reads them and as the page lists them."""

import hashlib
import json
import re
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modelyard_operator.resources.directives import (
    Copies,
    Keepsake,
    directives_hash,
    render_directives,
)
from modelyard_runtime.directives import Directives
from testkit.contract_pods import FULL, OWNER, section
from testkit.operator_objects import model_deployment


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
        # Nothing is divided.
        "stickiness": None,
    }
    assert Directives.model_validate_json(render_directives(model_deployment())) == Directives()
    assert directives_hash(OWNER, "Report") == hashlib.sha256(text.encode()).hexdigest()[:16]


SENDS = Copies("t0ken", "http://fraud-91ab44d0.ml.svc", 10)
TAKES = Copies("t0ken")
KEEPSAKE = Keepsake("modelyard-revision-91ab44d0", "always")


def test_both_sides_of_a_comparison_are_told_of_the_copies() -> None:
    sender = Directives.model_validate_json(render_directives(OWNER, copies=SENDS))
    receiver = Directives.model_validate_json(render_directives(OWNER, copies=TAKES))
    assert sender.shadow is not None
    assert (str(sender.shadow.url), sender.shadow.percent) == (SENDS.url, 10)
    assert sender.shadow.token == receiver.shadow_token == TAKES.token
    assert (sender.shadow_token, receiver.shadow) == ("", None)
    assert len({directives_hash(OWNER, None, side) for side in (None, SENDS, TAKES)}) == 3


def test_clients_are_led_back_as_they_are_told() -> None:
    text = render_directives(OWNER, keepsake=KEEPSAKE)
    told = Directives.model_validate_json(text).stickiness
    assert told is not None
    assert (told.cookie, told.value) == (KEEPSAKE.cookie, KEEPSAKE.value)
    assert directives_hash(OWNER, keepsake=KEEPSAKE) != directives_hash(OWNER)


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a part of the directives, by the name that the file has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def test_each_directive_that_is_written_is_read() -> None:
    sides = (render_directives(OWNER, "Gate", side, KEEPSAKE) for side in (SENDS, TAKES))
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
