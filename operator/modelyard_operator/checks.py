"""Checks of a spec that its schema cannot make: they need this operator's version and settings."""

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.rollout.freeze import InvalidFreezeError, check_freeze
from modelyard_operator.runtime_contract import SUPPORTED_SCHEMES, scheme
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import ModelDeployment


class UnsupportedURISchemeError(InvalidSpecError):
    """The URI's scheme has no loader."""

    reason = "UnsupportedURIScheme"
    hint = "copy the artifact to a storage that is supported"


class ImageNotAllowedError(InvalidSpecError):
    """The image does not come from a registry that the operator's settings allow."""

    reason = "ImageNotAllowed"
    hint = "use an allowed registry, or ask the operator's administrator"


def check_spec(model_deployment: ModelDeployment, settings: OperatorSettings) -> None:
    """Check what the schema cannot: what depends on this operator's version and settings.

    Raises:
        InvalidSpecError: The message names the field, what was expected and what was got.
    """
    check_scheme("spec.model.uri", model_deployment.spec.model.uri)
    image = model_deployment.spec.runtime.image
    allowed = settings.allowed_registries
    if image and allowed and not image.startswith(allowed):
        raise ImageNotAllowedError(
            f"spec.runtime.image: expected an image from {', '.join(allowed)}, got {image!r}"
        )
    for number, window in enumerate(model_deployment.spec.rollout.freeze):
        try:
            check_freeze(window)
        except InvalidFreezeError as error:
            raise InvalidSpecError(f"spec.rollout.freeze[{number}]: {error}") from error


def check_scheme(field: str, uri: str) -> None:
    """Check that artifacts can be fetched from a URI.

    Raises:
        UnsupportedURISchemeError: The message names the field, what was expected and what was got.
    """
    if scheme(uri) not in SUPPORTED_SCHEMES:
        known = ", ".join(sorted(SUPPORTED_SCHEMES))
        raise UnsupportedURISchemeError(
            f"{field}: expected one of the schemes {known}, got {scheme(uri)!r}"
        )
