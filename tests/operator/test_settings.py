import runpy
import sys

import pytest
from pydantic import ValidationError

from modelyard_operator.settings import OperatorSettings
from testkit.operator_objects import model_deployment


def test_the_environment_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "NAMESPACES": '["a", "b"]',
        "INGRESS_CLASS_PROFILES": '{"nginx": "ingress-nginx"}',
        "ALLOWED_REGISTRIES": '["registry.corp/"]',
        "WORKERS": "3",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"MODELYARD_OPERATOR_{name}", value)
    settings = OperatorSettings()
    assert settings.namespaces == ("a", "b")
    assert settings.profile("nginx") == "ingress-nginx"
    assert settings.profile("other") == "none"
    assert settings.allowed_registries == ("registry.corp/",)
    assert settings.workers == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "0"),
        ("LOG_LEVEL", "loud"),
        ("INGRESS_CLASS_PROFILES", '{"x": "haproxy"}'),
        ("RUNTIME_IMAGE_PULL_POLICY", "Sometimes"),
    ],
)
def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"MODELYARD_OPERATOR_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        OperatorSettings()


def test_the_program_says_which_variable_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELYARD_OPERATOR_WORKERS", "0")
    monkeypatch.delitem(sys.modules, "modelyard_operator.__main__", raising=False)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("modelyard_operator", run_name="__main__")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("MODELYARD_OPERATOR_WORKERS: ")


@pytest.mark.parametrize(
    ("model", "runtime", "image"),
    [
        ({"format": "Auto"}, {}, "torch:1"),
        ({"format": "TorchExport"}, {}, "torch:1"),
        ({"format": "ONNX"}, {}, "slim:1"),
        ({"format": "Sklearn"}, {}, "slim:1"),
        ({"format": "XGBoost"}, {}, "slim:1"),
        ({"format": "LightGBM"}, {}, "slim:1"),
        ({"format": "HuggingFace"}, {}, "torch:1"),
        ({"format": "ONNX"}, {"image": "own:1"}, "own:1"),
    ],
)
def test_the_smallest_image_that_loads_the_format(
    model: dict[str, str], runtime: dict[str, str], image: str
) -> None:
    settings = OperatorSettings(runtime_image="torch:1", runtime_image_slim="slim:1")
    owner = model_deployment(model={"uri": "s3://a", **model}, runtime=runtime)
    assert settings.catalogue.image(owner.spec) == image
    assert settings.catalogue.pull_policy == "IfNotPresent"
