"""Structured fuzzing: files that are sound in form and hostile in content. Random damage alone found none of the faults
that these generators are made of.

`python -m tests.fuzz.datasets --executions 200000 --seed 1`, also with `checkpoints` and `programs`; a part of it in
`test_fuzz.py`. An execution is reproduced by `--seed SEED --first NUMBER --executions 1`.
"""
