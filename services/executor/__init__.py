"""The executor: inference of one rank, measured by itself."""
