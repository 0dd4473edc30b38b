"""Studies on top of the front door: bench, forecast, published results."""
