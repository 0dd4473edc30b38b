"""Fuzzing: structured generators, small in CI (`tests/fuzz/test_*.py`), long by hand (`python -m tests.fuzz.…`)."""
