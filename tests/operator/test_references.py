import pytest

from modelyard_operator.references import References
from modelyard_operator.store import Key
from testkit.operator_objects import config_map

ONE, TWO, ELSEWHERE = Key("ml", "one"), Key("ml", "two"), Key("other", "one")


@pytest.fixture
def references() -> References:
    """Two models that read one ConfigMap, which has been looked up."""
    made = References()
    assert made.name(ONE, frozenset({"hooks"})) == ["hooks"]
    made.found("ml", "hooks", config_map("hooks", 5, a="1"))
    assert made.name(TWO, frozenset({"hooks"})) == []
    return made


def test_each_reader_sees_what_it_names(references: References) -> None:
    references.name(TWO, frozenset({"hooks", "golden"}))
    references.found("ml", "golden", None)
    assert references.contents(ONE) == {"hooks": {"a": "1"}}
    assert references.contents(TWO) == {"hooks": {"a": "1"}, "golden": None}
    assert references.contents(ELSEWHERE) == {}


def test_an_edit_concerns_its_readers(references: References) -> None:
    assert references.note(config_map("hooks", 6, a="2"), deleted=False) == {ONE, TWO}
    assert references.contents(ONE) == {"hooks": {"a": "2"}}


def test_news_without_a_change_concern_nobody(references: References) -> None:
    assert references.note(config_map("hooks", 5, a="1"), deleted=False) == set()
    assert references.note(config_map("hooks", 6, a="1"), deleted=False) == set()
    assert references.note(config_map("hooks", 4, a="0"), deleted=False) == set()
    assert references.contents(ONE) == {"hooks": {"a": "1"}}


def test_the_rest_of_the_cluster_is_not_kept(references: References) -> None:
    stranger = config_map("stranger", 9, a="1")
    namesake = config_map("hooks", 9, a="2")
    namesake["metadata"]["namespace"] = "other"
    for raw in (stranger, namesake):
        assert references.note(raw, deleted=False) == set()
    assert references.name(ELSEWHERE, frozenset({"hooks"})) == ["hooks"]
    assert references.contents(ONE) == {"hooks": {"a": "1"}}


def test_a_deletion_and_a_new_one_of_the_name_are_noticed(references: References) -> None:
    gone = config_map("hooks", 7, a="1")
    assert references.note(gone, deleted=True) == {ONE, TWO}
    assert references.contents(ONE) == {"hooks": None}
    assert references.note(config_map("hooks", 6, a="late"), deleted=False) == set()
    assert references.note(config_map("hooks", 8, a="3"), deleted=False) == {ONE, TWO}
    assert references.contents(TWO) == {"hooks": {"a": "3"}}


def test_a_config_map_that_is_created_late_is_noticed() -> None:
    references = References()
    references.name(ONE, frozenset({"hooks"}))
    references.found("ml", "hooks", None)
    assert references.contents(ONE) == {"hooks": None}
    assert references.note(config_map("hooks", 3, a="1"), deleted=False) == {ONE}


def test_the_watch_may_be_ahead_of_a_look_up() -> None:
    references = References()
    references.name(ONE, frozenset({"hooks"}))
    references.note(config_map("hooks", 8, a="new"), deleted=False)
    references.found("ml", "hooks", config_map("hooks", 7, a="old"))
    assert references.contents(ONE) == {"hooks": {"a": "new"}}
    references.found("ml", "hooks", None)
    assert references.contents(ONE) == {"hooks": {"a": "new"}}


def test_what_nobody_reads_is_forgotten(references: References) -> None:
    references.forget(ONE)
    assert references.name(ONE, frozenset({"hooks"})) == []  # the other one still reads it
    references.forget(ONE)
    references.name(TWO, frozenset())
    assert references.name(TWO, frozenset({"hooks"})) == ["hooks"]


def test_once_in_a_while_all_is_looked_up_anew(references: References) -> None:
    assert references.expire() == {ONE, TWO}
    assert references.name(ONE, frozenset({"hooks"})) == ["hooks"]
