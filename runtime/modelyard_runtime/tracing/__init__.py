"""Spans of requests, where the directives want them."""
