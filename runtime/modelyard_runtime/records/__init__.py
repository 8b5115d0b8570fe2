"""What is written down of a request that has ended."""
