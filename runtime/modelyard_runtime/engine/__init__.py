"""Models behind one protocol: arrays in, arrays out."""
