"""A run's folder: layout, commit protocol, result schema."""
