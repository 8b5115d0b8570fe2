"""Routes: one neutral plan, rendered by a dialect; what a proxy cannot do is said, not dropped."""
