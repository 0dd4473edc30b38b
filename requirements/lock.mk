# `make lock`: writes the images' lock files again, from pyproject.toml's extras and within dev.txt's versions, so
# that what is tested on a desk is what runs in a container.
COMPILE ?= .venv/bin/pip-compile
LOCK = $(COMPILE) --quiet --no-emit-index-url --no-emit-find-links --strip-extras --annotation-style=line \
	--no-header --constraint requirements/dev.txt
LOCKED = $(addprefix requirements/,$(addsuffix .txt,run executor executor-torch partitioner aggregator driver rendezvous))

.PHONY: lock
lock: $(LOCKED) requirements/bench.txt requirements/docs.txt

# All extras and the tools of development; everything else is locked within these versions.
requirements/dev.txt: pyproject.toml requirements/dev.in requirements/constraints.in
	$(COMPILE) --quiet --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras \
	  --annotation-style=line --no-header --all-extras --constraint requirements/constraints.in \
	  --output-file $@ pyproject.toml requirements/dev.in
	sed -i.bak 's/^\(torch==[0-9.]*\)+cpu/\1/' $@ && rm $@.bak

requirements/run.txt: EXTRAS = torch,openvino,onnx,aws,report,sky,formats
requirements/executor.txt: EXTRAS = openvino,hdf5,lambda
requirements/executor-torch.txt: EXTRAS = torch,openvino,onnx,hdf5,lambda
requirements/partitioner.txt: EXTRAS = hdf5,lambda
requirements/aggregator.txt: EXTRAS = lambda,report
requirements/driver.txt: EXTRAS = aws,report,sky

requirements/rendezvous.txt: requirements/rendezvous.in requirements/dev.txt
	$(LOCK) --output-file $@ $<

requirements/docs.txt: requirements/docs.in requirements/dev.txt
	$(LOCK) --output-file $@ $<

# The peers of `make bench`, and what their jobs and ours share.
requirements/bench.txt: requirements/bench.in pyproject.toml requirements/dev.txt
	$(LOCK) --extra torch --output-file $@ pyproject.toml $<
	sed -i.bak 's/^\(torch==[0-9.]*\)+cpu/\1/' $@ && rm $@.bak

# The CPU build of torch calls itself 2.13.0+cpu; the lock names the release, the index decides on the build.
$(addprefix requirements/,$(addsuffix .txt,run executor executor-torch partitioner aggregator driver)): pyproject.toml requirements/dev.txt
	$(LOCK) --extra $(EXTRAS) --output-file $@ $<
	sed -i.bak 's/^\(torch==[0-9.]*\)+cpu/\1/' $@ && rm $@.bak
