"""Wire formats: bytes or messages in, questions out; arrays in, bytes or messages out. No I/O."""
