"""What the fetcher and the runtime say themselves, in their termination messages."""

from collections.abc import Mapping
from typing import Final

from modelyard_cli.advice import advice
from modelyard_cli.advice.advice import Advice

MODEL: Final[Mapping[str, Advice]] = {
    "UnsupportedURIScheme": Advice(
        "No loader knows the scheme of spec.model.uri.",
        "Use s3://, https:// or pvc://.",
        advice.edit('{"model":{"uri":"URI"}}'),
        "names the artifact in another way",
    ),
    "ArtifactNotFound": Advice(
        "The store answered, and there is no artifact where spec.model.uri points, or no file "
        "matches includePatterns.",
        "Correct the URI, or upload the artifact; the download is tried again by itself.",
        advice.edit('{"model":{"uri":"URI"}}'),
        "points to another place",
    ),
    "AccessDenied": Advice(
        "The store refused the credentials of the download, or there were none.",
        "Correct the keys in the Secret that spec.model.credentialsSecretRef names, or give one.",
        advice.secret,
        "shows which keys there are, or names a Secret",
    ),
    "DigestMismatch": Advice(
        "The downloaded bytes are not those of spec.model.digest, so they were never loaded.",
        "Find out who changed the artifact; give its new digest only if that was you.",
        advice.edit('{"model":{"digest":"sha256:HEX"}}'),
        "accepts the artifact as it is now",
    ),
    "SourceUnreachable": Advice(
        "The store could not be reached after several tries: it refuses connections, or answers with "
        "errors of its own.",
        "Check endpointURL, network policies and the store itself; it is tried again by itself.",
        advice.logs,
        "shows the address and the error",
    ),
    "SourceNotResolved": Advice(
        "The name of the store's host does not resolve in the cluster.",
        "Correct the host in spec.model.uri or endpointURL, or the cluster's DNS; it is tried again "
        "by itself.",
        advice.logs,
        "shows the name that was looked up",
    ),
    "SourceNotTrusted": Advice(
        "The store's certificate is not signed by an authority that the pod trusts, or is for "
        "another name.",
        "Name your authority in spec.model.caBundleConfigMapRef, or use the host of the certificate.",
        advice.edit('{"model":{"caBundleConfigMapRef":{"name":"CONFIGMAP","key":"ca.crt"}}}'),
        "trusts the authority of a ConfigMap",
    ),
    "InsufficientStorage": Advice(
        "The model folder of the pod is full: the artifact is larger than its size limit or than "
        "the node's free disk.",
        "Narrow spec.model.includePatterns, or give the pod more ephemeral-storage.",
        advice.edit('{"resources":{"requests":{"ephemeral-storage":"QUANTITY"}}}'),
        "asks for more disk",
    ),
    "UnknownFormat": Advice(
        "The files fit no known model format, or several.",
        "Say which one it is in spec.model.format, or fetch only the model's own files.",
        advice.edit('{"model":{"format":"FORMAT"}}'),
        "says which format it is",
    ),
    "FormatUnavailable": Advice(
        "The image lacks the library that this format needs, as the slim one lacks torch.",
        "Use the image with that library, or export the model to another format.",
        advice.edit('{"runtime":{"image":"IMAGE"}}'),
        "chooses another image",
    ),
    "InvalidArtifact": Advice(
        "The library of the format refuses the file: it is damaged, not complete, or made by "
        "another version.",
        "Load it on your own machine with the same library, then upload it again.",
        advice.logs,
        "shows what the library said",
    ),
    "PickleNotAllowed": Advice(
        "Loading this format runs code from the artifact, which has to be allowed.",
        "Allow it for an artifact that you trust, together with its digest.",
        advice.edit('{"model":{"allowPickle":true,"digest":"sha256:HEX"}}'),
        "allows exactly these bytes",
    ),
    "WarmupFailed": Advice(
        "The model loads, but its first inference fails or gives NaN, so the pod is not let in.",
        "Check the declared inputs, the handler, and the warm-up requests.",
        advice.logs,
        "shows the inference and its error",
    ),
    "VerificationFailed": Advice(
        "The model does not answer the golden requests as recorded, so the pod is not let in.",
        "If the new answers are right, record them; if not, this version must not go out.",
        advice.logs,
        "shows which output differs, and by how much",
    ),
    "SignatureMismatch": Advice(
        "The artifact takes or gives other tensors than spec.model.inputs and outputs declare.",
        "Declare what it really has, or serve the artifact that was meant.",
        advice.open_spec,
        "opens the declared inputs and outputs",
    ),
    "InvalidHandler": Advice(
        "The handler file cannot be imported, or defines none of the known hooks.",
        "Correct the file in its ConfigMap; the new content becomes a new revision.",
        advice.logs,
        "shows the traceback",
    ),
    "StartupTimeout": Advice(
        "Loading and warming took longer than spec.runtime.timeouts.startupSeconds.",
        "Give it more time, more CPU, or a smaller model.",
        advice.edit('{"runtime":{"timeouts":{"startupSeconds":SECONDS}}}'),
        "gives it more time",
    ),
    "DeviceUnavailable": Advice(
        "CUDA is asked for, and the container sees no device.",
        "Ask for one with spec.accelerator, or set spec.runtime.device to CPU.",
        advice.edit('{"accelerator":{"resourceName":"nvidia.com/gpu","count":1}}'),
        "asks for a device",
    ),
    "InvalidSettings": Advice(
        "The runtime does not understand one of its MODELYARD_* variables.",
        "Remove it from spec.runtime.env, or use an image that fits this operator.",
        advice.logs,
        "shows which variable",
    ),
}
