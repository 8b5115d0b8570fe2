"""Change the rollout machine in small ways, and list the changes that no test notices.

    python tools/mutants.py            every mutant of a function that is new since the last run
    python tools/mutants.py 'NAME*'    those that match, again: after a new test

mutmut makes the changes, one at a time, and runs the fast tests that reach the changed function, in a
folder of the cache. What each survivor is left for is told in benchmarks/results/mutants.md.

References:
    https://mutmut.readthedocs.io; the settings are in pyproject.toml.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "modelyard"
PLACE: Final = CACHE / "mutants"
MUTATED: Final = Path("src/modelyard_operator/rollout")
STATES: Final = ("killed", "survived", "timeout", "no tests")


def lay_out() -> None:
    """Make the folder that mutmut runs in: it finds packages below ``src``, and nowhere else."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, target in (("src", "operator"), ("tests", "tests"), ("pyproject.toml",) * 2):
        link = PLACE / name
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / target)


def outcomes() -> Iterator[tuple[str, str, str]]:
    """Yield module, mutant and outcome of every mutant on record."""
    for meta in sorted((PLACE / "mutants" / MUTATED).glob("*.py.meta")):
        module = meta.name.removesuffix(".py.meta")
        for mutant, code in json.loads(meta.read_text())["exit_code_by_key"].items():
            yield module, mutant, status_by_exit_code[code]


def change(module: str, mutant: str) -> str:
    """Return what a mutant changes, as the lines that go and those that come."""
    diff = get_diff_for_mutant(mutant, path=MUTATED / f"{module}.py").splitlines()[2:]
    return "\n".join(line for line in diff if line.startswith(("-", "+")))


def report() -> None:
    """Print the outcomes for each module, and each mutant that was not killed."""
    found = list(outcomes())
    print("\n| module | mutants | " + " | ".join(STATES) + " |")
    print("|---|" + "---|" * (len(STATES) + 1))
    modules = sorted({module for module, _, _ in found})
    for name in (*modules, "all"):
        counts = Counter(state for module, _, state in found if name in {module, "all"})
        print(f"| {name} | {counts.total()} | {' | '.join(str(counts[s]) for s in STATES)} |")
    for module, mutant, state in found:
        if state != "killed":
            print(f"\n{mutant}: {state}\n{change(module, mutant)}")


def main() -> int:
    """Run mutmut, one mutant at a time, and report."""
    lay_out()
    command = ("mutmut", "run", "--max-children", "1", *sys.argv[1:])
    done = subprocess.run(command, cwd=PLACE, check=False)
    os.chdir(PLACE)  # mutmut reads its settings from where it is
    report()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
