# Measurements: speed beside the reference system's scripts and the peers, reading, scaling, planning, memory, cold start.
VENV_BENCH := .venv-bench

.PHONY: bench bench-quick bench-install

# The peers bring some eighty packages: they live apart, so that what they pin cannot disturb the product.
$(VENV_BENCH)/.installed: requirements/bench.txt
	@echo "installing the peers into $(VENV_BENCH) (once; a minute or two)"
	@test -x $(VENV_BENCH)/bin/python || $(PYTHON) -m venv $(VENV_BENCH)
	@$(VENV_BENCH)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_TORCH) -r $<
	@touch $@

bench-install: install-dev $(VENV_BENCH)/.installed

# Every part takes the same options (--samples, --rounds, --results), for a trial: make bench ARGS='--samples 256 --rounds 1'
bench: bench-install ## measure everything (about half an hour on an idle machine)
	$(BIN)/python -m benchmarks.bench full $(ARGS)
	$(BIN)/python -m benchmarks.growth $(ARGS)
	$(BIN)/python -m benchmarks.reading $(ARGS)
	$(BIN)/python -m benchmarks.scaling $(ARGS)
	$(BIN)/python -m benchmarks.accuracy $(ARGS)
	$(BIN)/python -m benchmarks.targets $(ARGS)

bench-quick: install-dev ## the ratio to the reference's Lambda script (3 minutes)
	$(BIN)/python -m benchmarks.bench quick $(ARGS)
