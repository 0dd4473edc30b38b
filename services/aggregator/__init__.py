"""The aggregator: accounts for every rank, merges, measures the science, reports. Runs without torch."""
