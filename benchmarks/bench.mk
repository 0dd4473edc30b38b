# Measurements: speed beside the reference system's scripts, planning, memory, cold start.
.PHONY: bench bench-quick

bench: install-dev ## measure everything (about half an hour on an idle machine)
	$(BIN)/python -m benchmarks.bench full $(ARGS)
	$(BIN)/python -m benchmarks.growth $(ARGS)

bench-quick: install-dev ## the ratio to the reference's Lambda script (3 minutes)
	$(BIN)/python -m benchmarks.bench quick $(ARGS)
