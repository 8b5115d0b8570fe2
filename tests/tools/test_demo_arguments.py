from pathlib import Path

import pytest

from demo.arguments import Place, parse
from demo.options import Options
from localcluster.paths import DEFAULT_NAME


def test_nothing_needs_to_be_said() -> None:
    assert parse([], {}) == (Place(DEFAULT_NAME, "auto", None), Options())


def test_flags_win_over_the_environment() -> None:
    environment = {"MODELYARD_CLUSTER": "a", "CLUSTER": "kind", "KEEP": "1"}
    place, options = parse([], environment)
    assert (place.name, place.provider, options.keep) == ("a", "kind", True)
    arguments = ["--name=b", "--provider=existing", "--down", "--kubeconfig=/k"]
    place, options = parse(arguments, environment)
    assert (place, options.keep) == (Place("b", "existing", Path("/k")), False)


@pytest.mark.parametrize(
    ("asked", "keep"), [("1", True), ("yes", True), ("0", False), ("no", False), ("", None)]
)
def test_keep_may_say_no(*, asked: str, keep: bool | None) -> None:
    assert parse([], {"KEEP": asked})[1].keep is keep


def test_a_registry_ends_with_a_slash() -> None:
    for given in ("registry.example.com/acme", "registry.example.com/acme/"):
        options = parse(["--registry", given, "--no-install", "--rate=5"], {})[1]
        assert options.torch_image == "registry.example.com/acme/modelyard/runtime:dev-torch"
        assert (options.install, options.rate) == (False, 5)
