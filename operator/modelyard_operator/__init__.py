"""The Modelyard operator: ModelDeployments in, workloads, routes and guarded rollouts out."""

__version__ = "0.1.0"
