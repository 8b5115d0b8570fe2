"""How an edit reaches production: a pure machine over status and observation."""
