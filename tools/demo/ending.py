"""The end of the demo: how to play on, or how everything goes away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from demo.options import HOST, MODEL, NAMESPACE, OPERATOR_NAMESPACE, RELEASE
from localcluster.paths import DEFAULT_NAME

if TYPE_CHECKING:
    from demo.cluster import Cluster
    from demo.narrator import Narrator


def play_on(cluster: Cluster, narrator: Narrator, *, created: bool) -> None:
    """Say what is running and what can be done with it.

    Args:
        cluster: The cluster, which stays.
        narrator: Who tells it.
        created: The demo has created the cluster.
    """
    narrator.section("It is all still running: play on")
    name = cluster_name(cluster)
    inside = f"python -m localcluster{name} exec -- " if cluster.provider.name == "local" else ""
    narrator.tell(
        f"The operator is in namespace {OPERATOR_NAMESPACE}, the models in {NAMESPACE}, "
        "S3 in s3, Traefik in traefik."
    )
    narrator.command(f"{inside}kubectl get mdep,pods,ingress -n {NAMESPACE}")
    narrator.command(f"{inside}kubectl describe mdep {MODEL} -n {NAMESPACE}")
    with cluster.address("traefik", "traefik", 80) as address:
        proxy = address if cluster.provider.name == "local" else "TRAEFIK"
    narrator.command(f"{inside}curl -s -H 'Host: {HOST}' http://{proxy}/v2/models/{MODEL}")
    narrator.tell("Edit spec.model and apply it again, back to version 1 for instance, and watch:")
    narrator.command(f"{inside}kubectl apply -f examples/digits/v1.yaml")
    narrator.command(f"{inside}kubectl get mdep {MODEL} -n {NAMESPACE} --watch")
    if created or cluster.provider.name != "existing":
        narrator.tell("Remove it all (`python -m demo --down` does so at its end):")
        narrator.command("make down" if not name else f"python -m localcluster{name} down")
    else:
        narrator.tell("Remove it (`python -m demo --down` does so at its end):")
        narrator.command(f"kubectl delete namespace {NAMESPACE}")
        narrator.command(f"helm uninstall {RELEASE} -n {OPERATOR_NAMESPACE}")
    narrator.console.print()


def tear_down(cluster: Cluster, narrator: Narrator, *, created: bool, installed: bool) -> None:
    """Remove what the demo has made.

    Args:
        cluster: The cluster: removed if the demo has created it.
        narrator: Who tells it.
        created: The demo has created the cluster.
        installed: The demo has installed the chart.
    """
    narrator.console.print()
    narrator.tell("Removing what the demo has made; KEEP=1 or --keep leaves it running.")
    if created:
        cluster.provider.down(purge=False)
        return
    with narrator.step("remove the models"):
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
    if installed:
        with narrator.step("remove the operator"):
            cluster.run("helm", "uninstall", RELEASE, f"--namespace={OPERATOR_NAMESPACE}", "--wait")
            cluster.kubectl("delete", "namespace", OPERATOR_NAMESPACE, "--wait")


def cluster_name(cluster: Cluster) -> str:
    """Return the option that names the cluster, empty for the one that is meant anyway."""
    paths = getattr(cluster.provider, "paths", None)
    name: str = paths.name if paths else DEFAULT_NAME
    return "" if name == DEFAULT_NAME else f" --name {name}"
