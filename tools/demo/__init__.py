"""The demo: real data, two versions of a model, and an update that no client notices.

``python -m demo`` trains the models, brings a cluster up, installs the chart, deploys, and rolls
the second version out under constant load while it shows what the clients see. A third one is
broken, and is rolled back on the evidence.
"""
