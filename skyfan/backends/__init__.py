"""Where a job runs: one backend a file, chosen by name when the run starts.

The driver of the service backends is a bounded fan-out with the words and the meaning of a Distributed Map. It is not a
cluster manager: beyond one machine the engine is Step Functions.
"""
