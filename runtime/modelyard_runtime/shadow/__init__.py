"""Copies of live requests for another revision, and whether it answers alike."""
