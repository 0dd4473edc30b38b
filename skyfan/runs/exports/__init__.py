"""A finished run's predictions as one table in the formats that astronomers exchange."""
