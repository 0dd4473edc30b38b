"""`--on slurm`: ranks as tasks of a cluster's own scheduler."""
