"""The fault matrix: one run, one fault at one moment of it, one oracle; `make faults` prints all of them.

A cell is `target/fault/moment`, such as `process/kill/committed`. Each is run in a process of its own, which breaks at
the moment that its run's own events tell; then the same job is run once more without a fault. `make faults
ARGS="--cell process/kill/committed --seed 7"` repeats one.
"""
