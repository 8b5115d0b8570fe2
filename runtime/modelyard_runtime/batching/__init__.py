"""Requests in, batches through the model, one answer per caller. Knows neither HTTP nor tensors."""
