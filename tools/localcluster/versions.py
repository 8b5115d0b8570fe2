"""Every pinned version, in one place; a change here rebuilds exactly what it names."""

from __future__ import annotations

from typing import Final

GO: Final = "1.26.8"
KUBERNETES: Final = "1.37.2"
CONTAINERD: Final = "2.4.2"
HELM: Final = "4.3.1"
COREDNS: Final = "1.14.2"
METRICS_SERVER: Final = "0.9.0"
VERSITYGW: Final = "1.8.0"
TRAEFIK: Final = "3.7.15"
GATEWAY_API: Final = "1.6.1"
ENVOY_GATEWAY: Final = "1.9.1"
ENVOY: Final = "1.39.1"
PAUSE: Final = "1"
DEBIAN: Final = "bookworm"

PAUSE_IMAGE: Final = f"docker.io/modelyard/pause:{PAUSE}"
PYTHON_IMAGE: Final = "docker.io/library/python:3.11-slim-bookworm"
TRAEFIK_IMAGE: Final = f"docker.io/modelyard/traefik:{TRAEFIK}"
S3_IMAGE: Final = f"docker.io/modelyard/versitygw:{VERSITYGW}"
ENVOY_GATEWAY_IMAGE: Final = f"docker.io/modelyard/envoy-gateway:{ENVOY_GATEWAY}"
ENVOY_IMAGE: Final = f"docker.io/modelyard/envoy:{ENVOY}"
METRICS_SERVER_IMAGE: Final = f"docker.io/modelyard/metrics-server:{METRICS_SERVER}"

PUBLIC_IMAGES: Final = {
    "traefik_image": f"docker.io/library/traefik:v{TRAEFIK}",
    "s3_image": f"docker.io/versity/versitygw:v{VERSITYGW}",
    "metrics_server_image": f"registry.k8s.io/metrics-server/metrics-server:v{METRICS_SERVER}",
    "python_image": PYTHON_IMAGE,
}
"""What a cluster with a way to the registries pulls for the add-ons."""
