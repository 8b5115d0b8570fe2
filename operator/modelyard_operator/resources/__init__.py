"""Pure builders: typed spec in, Kubernetes manifest out; one child kind a file."""
