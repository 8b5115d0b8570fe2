"""What the operator reports about itself; names as controllers written in Go give them."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter("modelyard_operator_reconcile_total", "Finished reconciles", ["result"])
RECONCILE_SECONDS = Histogram(
    "modelyard_operator_reconcile_time_seconds",
    "Duration of a reconcile",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
REQUESTS = Counter(
    "rest_client_requests_total", "Requests to the API server", ["verb", "kind", "code"]
)
QUEUE_DEPTH = Gauge("workqueue_depth", "Keys that wait for a worker")
QUEUE_RETRIES = Counter("workqueue_retries_total", "Keys put back after a failure")
SWEPT = Counter("modelyard_operator_sweep_changes_total", "Objects found only by the sweep")
MODEL_DEPLOYMENTS = Gauge("modelyard_operator_model_deployments", "ModelDeployments known")
SCRAPES = Counter(
    "modelyard_operator_scrapes_total", "Requests to pods and to Prometheus", ["result"]
)
VERDICTS = Counter(
    "modelyard_operator_analysis_verdicts_total", "Judgements of a window, one a pass", ["verdict"]
)
