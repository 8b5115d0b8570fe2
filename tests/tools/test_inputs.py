from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localcluster.buildah import step_layers
from localcluster.errors import LocalClusterError
from localcluster.inputs import copied_sources, digest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM python\nCOPY pyproject.toml ./\nCOPY src/ /src/\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "README.md").write_text("read me\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("print()\n")
    return tmp_path


def of(context: Path, **build_args: str) -> str:
    return digest(context / "Dockerfile", context, build_args)


def test_the_same_inputs_have_the_same_digest(context: Path) -> None:
    assert of(context) == of(context)
    assert len(of(context)) == 64


@pytest.mark.parametrize("file", ["Dockerfile", "pyproject.toml", "src/main.py"])
def test_a_copied_file_matters(context: Path, file: str) -> None:
    before = of(context)

    with (context / file).open("a") as content:
        content.write("# more\n")

    assert of(context) != before


@pytest.mark.parametrize("file", ["README.md", "src/__pycache__/main.pyc"])
def test_a_file_that_is_not_copied_does_not_matter(context: Path, file: str) -> None:
    before = of(context)

    (context / file).parent.mkdir(exist_ok=True)
    (context / file).write_text("other\n")

    assert of(context) == before


def test_a_new_a_renamed_and_an_executable_file_matter(context: Path) -> None:
    seen = {of(context)}
    (context / "src" / "new.py").touch()
    seen.add(of(context))
    (context / "src" / "new.py").rename(context / "src" / "newer.py")
    seen.add(of(context))
    (context / "src" / "newer.py").chmod(0o755)
    seen.add(of(context))

    assert len(seen) == 4


def test_build_arguments_and_the_target_matter(context: Path) -> None:
    file = context / "Dockerfile"

    assert len({of(context), of(context, A="1"), of(context, A="2")}) == 3
    assert digest(file, context, {}, ["slim"]) != digest(file, context, {}, ["full"])


def test_the_order_of_build_arguments_does_not_matter(context: Path) -> None:
    assert of(context, A="1", B="2") == of(context, B="2", A="1")


def test_ignored_files_do_not_matter_unless_taken_back(context: Path) -> None:
    (context / "Dockerfile").write_text("FROM python\nCOPY . .\n")
    (context / ".dockerignore").write_text(".venv\n**/*.log\n!keep.log\n.dockerignore\n")
    before = of(context)

    (context / ".venv").mkdir()
    (context / ".venv" / "big").write_text("x")
    (context / "src" / "a.log").write_text("x")
    assert of(context) == before

    (context / "keep.log").write_text("x")
    assert of(context) != before


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("COPY a b /dst/", ["a", "b"]),
        ("copy --chown=1:1 --chmod=644 a /dst", ["a"]),
        ("COPY --from=build /venv /venv", []),
        ('COPY ["with space", "/dst"]', ["with space"]),
        ("COPY a \\\n     b \\\n     /dst/", ["a", "b"]),
        ("ADD https://example.com/x.tgz local /dst/", ["local"]),
        ("RUN echo COPY a b", []),
    ],
)
def test_copied_sources(text: str, sources: list[str]) -> None:
    assert copied_sources(f"FROM scratch\n{text}\n") == sources


def test_layers_of_a_build_are_those_made_and_those_used_again() -> None:
    output = """\
[1/2] STEP 1/2: FROM python AS build
--> Using cache 91df95342379a5aee8a506b85fb1e202dd1301d515c27e84e31042597310477d
--> 91df9534237
[2/2] STEP 2/2: COPY x /x
--> 770e738aca0
Successfully tagged docker.io/library/t:2
263135233d8141f6131dc08736384d905fc97e9925b7cb4a6b9835c7e41a1229
"""
    assert step_layers(output) == ["91df9534237", "770e738aca0"]


def test_a_missing_dockerfile_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalClusterError, match=r"cannot read .*Nowhere"):
        digest(tmp_path / "Nowhere", tmp_path, {})
