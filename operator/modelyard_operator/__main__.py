"""``python -m modelyard_operator``: read the settings, set up the logs, run until told to stop."""

import asyncio
import sys
from typing import Any, cast

import kopf
from pydantic import ValidationError

from modelyard_operator import log
from modelyard_operator.handlers import Operator, build_registry
from modelyard_operator.settings import OperatorSettings


def main() -> None:
    """Run the operator; exits 2 with one line a fault when the environment does not parse."""
    try:
        settings = OperatorSettings()
    except ValidationError as error:
        for fault in error.errors():
            field = "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"MODELYARD_OPERATOR_{field}: {fault['msg']}\n")
        sys.exit(2)
    log.configure(settings.log_level)
    operator = Operator(settings)
    asyncio.run(
        kopf.operator(
            registry=build_registry(operator),
            # Given, because kopf would ask for the name of a user that an image need not have.
            identity=cast("Any", settings.pod_name),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
        )
    )


if __name__ == "__main__":
    main()
