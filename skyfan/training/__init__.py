"""Training of AstroMAE models and their comparison with other methods."""
