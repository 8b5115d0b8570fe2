from pathlib import Path

import pytest
import yaml

from demo.arguments import Place, parse
from demo.options import EXAMPLES, ROOT, Options
from demo.proxies import PROXIES
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


def test_the_dialect_tells_the_proxy() -> None:
    assert parse([], {})[1].proxy.name == "Traefik"
    assert parse([], {"DIALECT": "Gateway"})[1].proxy.name == "Envoy Gateway"
    assert parse(["--dialect=Ingress"], {"DIALECT": "Gateway"})[1].proxy.name == "Traefik"
    with pytest.raises(SystemExit):
        parse(["--dialect=gateway"], {})


@pytest.mark.parametrize("dialect", PROXIES)
def test_what_the_demo_asks_of_the_chart_is_one_of_its_values(dialect: str) -> None:
    chart = yaml.safe_load((ROOT / "charts" / "modelyard" / "values.yaml").read_text())
    assert {key.partition(".")[0] for key in PROXIES[dialect].values} <= chart.keys()


@pytest.mark.parametrize("path", sorted((ROOT / EXAMPLES).glob("*.yaml")), ids=lambda one: one.stem)
def test_the_models_leave_the_dialect_open(path: Path) -> None:
    *_, model_deployment = yaml.safe_load_all(path.read_text())
    assert "dialect" not in model_deployment["spec"]["exposure"]
