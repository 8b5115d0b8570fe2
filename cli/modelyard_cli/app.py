"""The command line, put together from its groups."""

from typing import Final

import typer

from modelyard_cli.commands import ask, look, read_logs, revisions, steer

HELP: Final = """See and steer the rollouts of ModelDeployments.

Every edit of a model reaches production as a guarded canary. `status` shows how far it is and on
which evidence, `explain` says why something is not Ready and what to run next, and `promote`,
`pause`, `resume`, `abort`, `retry` and `rollback` decide in the operator's place.

\b
Typical:
  modelyard status                 all models of the namespace
  modelyard status fraud --watch   one rollout, live
  modelyard explain fraud          why is it not Ready?
  modelyard abort fraud            back to the stable revision, now
\b
It is a plugin of kubectl, too: `kubectl modelyard status`.
"""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for group in (look, revisions, steer, ask, read_logs):
    group.register(app)
