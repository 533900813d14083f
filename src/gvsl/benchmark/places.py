"""Where things lie in a benchmark's folder."""

RUNS = "runs"
FAILED = "failed"
LOGS = "logs"
JOBS = "jobs"
LOCK = ".lock"
