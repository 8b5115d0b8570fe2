"""What the user asks for: flags, and the variables of the environment that stand for them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo.options import Options
from demo.proxies import PROXIES
from localcluster.paths import DEFAULT_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HELP: Final = """\
Train two versions of a model on the spot, serve the first, and roll the second out under constant load,
while you watch what clients see. A third version is broken, and is rolled back.

It runs in the cluster of KUBECONFIG, in kind (CLUSTER=kind), or in a Kubernetes of its own that it
builds on this Linux machine. The first time takes about 20 minutes, later ones about 5.
"""
_YES: Final = frozenset({"1", "true", "t", "yes", "y", "on"})


@dataclass(frozen=True)
class Place:
    """Where the demo happens.

    Attributes:
        name: Name of the cluster.
        provider: ``existing``, ``kind``, ``local`` or ``auto``.
        kubeconfig: Of a cluster that exists; None for that of ``KUBECONFIG``.
    """

    name: str
    provider: str
    kubeconfig: Path | None


def parse(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> tuple[Place, Options]:
    """Read what the user asks for; a flag wins over the environment.

    Args:
        arguments: Flags; None takes the process's own.
        environment: ``MODELYARD_CLUSTER``, ``CLUSTER``, ``DIALECT``, ``KEEP`` and
            ``TORCH_INDEX_URL`` are read.

    Returns:
        Where the demo is to happen, and how.

    Raises:
        SystemExit: There is no such flag, or help was asked for.
    """
    parser = argparse.ArgumentParser(
        "python -m demo", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_place(parser, environment)
    _add_images(parser, environment)
    _add_course(parser, environment)
    found = parser.parse_args(arguments)
    place = Place(found.name, found.provider, found.kubeconfig)
    return place, Options(
        registry=f"{found.registry.rstrip('/')}/" if found.registry else "",
        tag=found.tag,
        torch_index_url=found.torch_index_url,
        dialect=found.dialect,
        proxy_address=found.proxy_address,
        install=found.install,
        rate=found.rate,
        keep=found.keep,
    )


def _add_place(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    name = environment.get("MODELYARD_CLUSTER") or DEFAULT_NAME
    parser.add_argument("--name", default=name, help="name of the cluster (MODELYARD_CLUSTER)")
    parser.add_argument(
        "--provider",
        choices=("existing", "kind", "local", "auto"),
        default=environment.get("CLUSTER") or "auto",
        help="who provides the cluster (CLUSTER); default auto",
    )
    parser.add_argument(
        "--kubeconfig", type=Path, help="of a cluster that exists; default: KUBECONFIG"
    )
    parser.add_argument(
        "--dialect",
        choices=tuple(PROXIES),
        default=environment.get("DIALECT") or "Ingress",
        help="of the routes (DIALECT): Ingress goes through Traefik, Gateway through Envoy Gateway; "
        "default Ingress",
    )
    parser.add_argument(
        "--proxy-address",
        default="",
        help="host:port of the proxy, where it is not found by itself",
    )


def _add_images(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    parser.add_argument(
        "--registry",
        default="",
        help="pull the images from here, e.g. registry.example.com/acme/, and build none",
    )
    parser.add_argument("--tag", default="dev", help="tag of the images; default dev")
    parser.add_argument(
        "--torch-index-url",
        default=environment.get("TORCH_INDEX_URL", ""),
        help="where the torch image takes torch from (TORCH_INDEX_URL); default PyPI",
    )


def _add_course(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    parser.add_argument(
        "--install",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="install the chart; otherwise an operator must be running",
    )
    parser.add_argument(
        "--rate", type=float, default=120.0, help="requests a second during the rollout"
    )
    asked = environment.get("KEEP")
    keep = asked.lower() in _YES if asked else None
    end = parser.add_mutually_exclusive_group()
    end.add_argument(
        "--keep",
        action="store_true",
        default=keep,
        help="leave everything running at the end (KEEP=1). By default it stays where somebody sits "
        "at a terminal, and where the cluster was there before",
    )
    end.add_argument("--down", action="store_false", dest="keep", default=keep, help="remove it")
