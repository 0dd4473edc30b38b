"""Time and cost of a run before it runs: a simulated Distributed Map and other workers, calibrated by measured runs."""
