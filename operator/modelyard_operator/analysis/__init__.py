"""From the counters of the pods to a verdict: pure, and the same for every source of the figures."""
