"""What the kubelet says of pods and containers."""

from collections.abc import Mapping
from typing import Final

from modelyard_cli.advice import advice
from modelyard_cli.advice.advice import Advice

PODS: Final[Mapping[str, Advice]] = {
    "OutOfMemory": Advice(
        "The container needed more memory than its limit, so it was ended.",
        "Raise the limit, or serve a smaller model or batch.",
        advice.edit('{"resources":{"limits":{"memory":"QUANTITY"}}}'),
        "raises the limit",
    ),
    "DownloadOutOfMemory": Advice(
        "The download needed more memory than the limit of its container, so it was ended.",
        "Raise the limit; the download's container has the same one as the runtime.",
        advice.edit('{"resources":{"limits":{"memory":"QUANTITY"}}}'),
        "raises the limit",
    ),
    "PortInUse": Advice(
        "The server found its port taken by another container of the same pod.",
        "Let the containers of spec.podTemplate listen elsewhere than on 8080, 8081 and 8082.",
        advice.open_spec,
        "opens the spec with its podTemplate",
    ),
    "ProbeFailed": Advice(
        "The container runs, and does not answer the kubelet's probe as it should.",
        "If spec.podTemplate brings a probe of its own, correct or remove it; else the log tells what "
        "keeps the server from answering.",
        advice.logs,
        "shows what the server says",
    ),
    "PodEvicted": Advice(
        "The node ran short of memory or disk and gave the pod up; another one replaces it.",
        "Raise spec.resources.requests, so that the pod only goes where there is enough.",
        advice.describe,
        "shows what the node was short of",
    ),
    "DeviceAllocationFailed": Advice(
        "The scheduler placed the pod, and the node's device plugin could not give it its device.",
        "See the node's device plugin: the device may have become unhealthy, or have been taken.",
        advice.describe,
        "shows what the device plugin said",
    ),
    "PodFailed": Advice(
        "The kubelet gave the pod up; another one replaces it.",
        "See the kubelet's message.",
        advice.describe,
        "shows what the kubelet said",
    ),
    "ContainerCrashed": Advice(
        "The container ended without saying why, so its log has the only trace.",
        "Read its last lines.",
        advice.logs,
        "shows the last lines of the container that ended",
    ),
    "ImagePullFailed": Advice(
        "The node cannot pull the image: the name or tag is wrong, or the registry asks for a login.",
        "Correct spec.runtime.image, or name the login in spec.runtime.imagePullSecrets.",
        advice.describe,
        "shows what the registry answered",
    ),
    "InvalidImageName": Advice(
        "spec.runtime.image is not the name of an image.",
        "Write it as registry/repository:tag.",
        advice.edit('{"runtime":{"image":"IMAGE"}}'),
        "corrects the name",
    ),
    "SecretNotFound": Advice(
        "A Secret that the pod needs does not exist in its namespace.",
        "Create it, or correct its name in the spec; the kubelet tries again by itself.",
        advice.kubectl("get secrets"),
        "shows which Secrets there are",
    ),
    "ConfigMapNotFound": Advice(
        "A ConfigMap that the pod needs does not exist in its namespace.",
        "Create it, or correct its name in the spec; the kubelet tries again by itself.",
        advice.kubectl("get configmaps"),
        "shows which ConfigMaps there are",
    ),
    "VolumeMountFailed": Advice(
        "A volume of the pod does not mount, so none of its containers can start.",
        "See what the volume needs: its claim, its Secret, its server, or that no other node has it.",
        advice.describe,
        "shows which volume, and what its driver said",
    ),
    "PodSandboxFailed": Advice(
        "The node could not make the pod's sandbox: its network plugin or its runtime class fails.",
        "See the node's container runtime and network, and spec.scheduling.runtimeClassName.",
        advice.describe,
        "shows what the container runtime said",
    ),
    "ContainerConfigError": Advice(
        "A Secret or ConfigMap that the pod refers to lacks a key, or the image runs as a user that is "
        "not allowed.",
        "Correct what the message names; the kubelet tries again by itself.",
        advice.describe,
        "shows what the kubelet said",
    ),
    "ContainerCreateError": Advice(
        "The node could not start the container: often a wrong command or an image for another "
        "architecture.",
        "Correct spec.runtime.args or the image.",
        advice.describe,
        "shows what the kubelet said",
    ),
}
