"""The HTTP edge: requests in, errors mapped to answers."""
