"""The reference system's published results, its tables recomputed, and the true numbers beside them."""
