"""What every process of ours has: log lines, metrics, and the pages that probes ask for."""
