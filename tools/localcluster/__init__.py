"""A real Kubernetes cluster for tests and demos, on whatever this machine has.

``python -m localcluster up`` uses a cluster that exists, creates one with kind, or builds
Kubernetes from its Go modules and runs it in a network namespace of its own.
"""
