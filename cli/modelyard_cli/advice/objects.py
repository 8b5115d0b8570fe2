"""What the operator and the API server say of objects."""

from collections.abc import Mapping
from typing import Final

from modelyard_cli.advice import advice
from modelyard_cli.advice.advice import Advice

OBJECTS: Final[Mapping[str, Advice]] = {
    "InvalidSpec": Advice(
        "The spec asks for something that cannot be, so no revision was made of it.",
        "Correct the field that the message names.",
        advice.open_spec,
        "shows the whole spec",
    ),
    "ReferenceNotFound": Advice(
        "A ConfigMap that the spec takes a file from does not exist, or lacks the key.",
        "Create it, or correct its name or key in the spec; it is looked at again by itself.",
        advice.kubectl("get configmaps"),
        "shows which ConfigMaps there are",
    ),
    "FilesTooLarge": Advice(
        "The handler and the golden requests together are larger than a ConfigMap can be.",
        "Use fewer or smaller requests, or put them into the artifact.",
        advice.open_spec,
        "opens the spec with its files",
    ),
    "ImageNotAllowed": Advice(
        "The operator's settings do not allow images from this registry.",
        "Use an image of an allowed registry, or have the registry allowed in the chart's values.",
        advice.edit('{"runtime":{"image":"IMAGE"}}'),
        "chooses another image",
    ),
    "FeaturesUnsupported": Advice(
        "The exposure asks for what neither the proxy nor the model server has, so all of it is "
        "held back.",
        "Take the fields back that the message names, choose another proxy, or do without them.",
        advice.edit('{"exposure":{"strict":false}}'),
        "does without what is missing, and applies the rest",
    ),
    "InvalidPodTemplate": Advice(
        "The API server refuses the Deployment that the spec leads to.",
        "Correct spec.podTemplate, spec.scheduling or spec.resources, whichever the message names.",
        advice.open_spec,
        "shows the whole spec",
    ),
    "ChildRejected": Advice(
        "The API server refuses an object that the spec leads to, such as the Ingress.",
        "Correct the part of the spec that the message names.",
        advice.open_spec,
        "shows the whole spec",
    ),
    "NameTaken": Advice(
        "An object with a name that this ModelDeployment needs exists and belongs to somebody else.",
        "Delete or rename that object, or give this ModelDeployment another name.",
        advice.kubectl("get deployments,services,ingresses,configmaps --show-labels"),
        "shows whose it is",
    ),
    "ClusterError": Advice(
        "The API server did not do what the operator asked; the operator tries again.",
        "If it lasts, look at the operator's log.",
        advice.operator_log,
        "shows what was asked and answered",
    ),
    "Conflict": Advice(
        "An object changed under the operator's hands; it looks again at once.",
        "Nothing, unless it lasts: then two controllers write the same object.",
        advice.operator_log,
        "shows which object",
    ),
    "Forbidden": Advice(
        "RBAC or an admission policy keeps the operator from writing an object.",
        "Allow it: the chart's ClusterRole lists what the operator needs.",
        advice.operator_log,
        "shows what was refused",
    ),
    "NamespaceQuotaExceeded": Advice(
        "A ResourceQuota of the namespace has no room for one of the objects that the spec leads to.",
        "Free objects of the kind that the message names, or have the quota raised.",
        advice.kubectl("describe resourcequota"),
        "shows what is used of what is allowed",
    ),
    "Rejected": Advice(
        "The API server finds an object invalid that the spec leads to.",
        "Correct the field that the message names.",
        advice.open_spec,
        "shows the whole spec",
    ),
    "Gone": Advice(
        "The object or its namespace is being deleted.",
        "Nothing: it ends by itself.",
        advice.namespace,
        "shows whether the namespace is terminating",
    ),
}
