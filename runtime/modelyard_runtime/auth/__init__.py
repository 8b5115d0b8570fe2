"""Who asks: API keys and tokens."""
