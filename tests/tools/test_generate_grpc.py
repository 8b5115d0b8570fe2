"""The committed gRPC messages are those of the proto file."""

from __future__ import annotations

import pytest

from generate_grpc import ROOM, generate


@pytest.mark.slow
def test_the_generated_code_is_current() -> None:
    for name, content in generate().items():
        assert (ROOM / name).read_text() == content, "run python tools/generate_grpc.py"
