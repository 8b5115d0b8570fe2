"""The end of the demo: how to play on, or how everything goes away."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from demo.options import EXAMPLES, HOST, MODEL, NAMESPACE, OPERATOR_NAMESPACE, RELEASE
from localcluster.paths import DEFAULT_NAME

if TYPE_CHECKING:
    from demo.cluster import Cluster
    from demo.narrator import Narrator
    from demo.proxies import Proxy


def play_on(cluster: Cluster, narrator: Narrator, proxy: Proxy) -> None:
    """Say what is running and what can be done with it.

    Args:
        cluster: The cluster, which stays.
        narrator: Who tells it.
        proxy: What clients ask.
    """
    narrator.section("It is all still running: play on")
    program = f"{sys.executable} -m localcluster{cluster_name(cluster)}"
    inside = "inside " if cluster.provider.name != "existing" else ""
    narrator.tell(
        f"The operator is in namespace {OPERATOR_NAMESPACE}, the models in {NAMESPACE}, "
        f"S3 in s3, {proxy.name} in {proxy.namespace}."
    )
    if inside:
        narrator.tell("The cluster has a network of its own; this runs a command in there:")
        narrator.command(f"alias inside='{program} exec --'")
    narrator.command(f"{inside}kubectl get mdep,pods,{proxy.routes} -n {NAMESPACE}")
    narrator.command(f"{inside}kubectl describe mdep {MODEL} -n {NAMESPACE}")
    if cluster.provider.name == "local":
        with proxy.address(cluster) as address:
            url = f"http://{address.removesuffix(':80')}/v2/models/{MODEL}"
        narrator.command(f"{inside}curl -s -H 'Host: {HOST}' {url}")
    narrator.tell("Edit spec.model and apply it again, back to version 1 for instance, and watch:")
    narrator.command(f"{inside}kubectl apply -f {EXAMPLES / 'v1.yaml'}")
    narrator.command(f"{inside}kubectl get mdep {MODEL} -n {NAMESPACE} --watch")
    if inside:
        narrator.tell("Remove it all (`python -m demo --down` does so at its end):")
        named = cluster_name(cluster) or cluster.provider.name == "kind"
        narrator.command(f"{program} down" if named else "make down")
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
