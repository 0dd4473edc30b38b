# The fault matrix: `make faults`, or one cell again: make faults ARGS="--cell process/kill/committed --seed 7".
.PHONY: faults

faults: install-dev ## what breaks, at every moment of a run: nothing is lost, nothing is silent (about 15 minutes)
	$(BIN)/python -m tests.faults $(ARGS)
	@if [ "$(SKYFAN_REQUIRE_DOCKER)" = 1 ]; then \
	  $(BIN)/python -m pytest -m docker tests/containers/test_faults.py tests/backends/stepfunctions/test_faults.py \
	    tests/localstack/test_tolerance.py; \
	else echo "cells in containers are left out; SKYFAN_REQUIRE_DOCKER=1 make faults runs them, too"; fi
