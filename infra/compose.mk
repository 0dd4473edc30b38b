# The demo job in containers: `make compose` brings everything up, runs it and takes everything down again.
.PHONY: compose

# Where pip has a folder of wheels, the images are built from it as well, without PyTorch's index.
COMPOSE_WHEELS = $(or $(WHEELS_DIR),$(firstword $(wildcard $(shell pip config get global.find-links 2>/dev/null))))
COMPOSE = $(if $(COMPOSE_WHEELS),WHEELS_DIR=$(COMPOSE_WHEELS) TORCH_INDEX=) \
  HOST_UID=$(shell id -u) HOST_GID=$(shell id -g) SKYFAN_REVISION=$(shell git rev-parse --short HEAD 2>/dev/null) \
  docker compose

compose: ## the demo job in containers over gRPC (EXECUTORS=3 make compose); report in runs/compose
	@$(COMPOSE) up --build --exit-code-from driver; code=$$?; $(COMPOSE) down --volumes; exit $$code
