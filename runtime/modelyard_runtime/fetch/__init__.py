"""``python -m modelyard_runtime.fetch``: a model URI → verified files in the model repository."""
