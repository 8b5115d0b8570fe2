"""``spec.variants``: other models that get a share of the requests for long."""

from typing import Any

from modelyard_operator.spec.base import ModelFormat, Spec


class VariantModelSpec(Spec):
    """What a variant serves; what is None is as in ``spec.model``, but for the version."""

    version: str | None = None
    uri: str
    digest: str | None = None
    format: ModelFormat | None = None


class VariantSpec(Spec):
    """One model beside the one that is rolled out.

    Attributes:
        name: Tells it from the other variants.
        weight: Percent of all requests.
        replicas: Its pods; None: as many as stable.
        model: What it serves.
    """

    name: str
    weight: int
    replicas: int | None = None
    model: VariantModelSpec

    def overrides(self, endpoint_url: str | None) -> dict[str, Any]:
        """Return the fields of ``spec.model`` that are the variant's own.

        Version and digest are those of one artifact, so that they are never the other's; and only S3
        has an endpoint.

        Args:
            endpoint_url: ``spec.model.endpointURL``.
        """
        own = {"uri": self.model.uri, "version": self.model.version, "digest": self.model.digest}
        if self.model.format:
            own["format"] = self.model.format
        is_s3 = self.model.uri.startswith("s3://")
        return {**own, "endpoint_url": endpoint_url if is_s3 else None}
