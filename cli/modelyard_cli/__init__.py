"""The ``modelyard`` command, also as ``kubectl modelyard``: a rollout for people.

::

    commands/       one module for each group of commands: options in, text out
      │
    render/         what is known → rich renderables
    explain.py      what is known → why, in one paragraph, and the next command
      │               advice.py (failures), rollout_states.py (states of a rollout)
    view.py         a ModelDeployment as JSON → types; knows older and partial statuses
    history.py  diff.py  steering.py  prediction.py  log_sources.py    pure, one job each
      │
    cluster.py      the only importer of the Kubernetes client

It reads what the operator writes and imports neither the operator nor the runtime.
"""
