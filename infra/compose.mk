# The demo job in containers: `make compose` brings everything up, runs it and takes everything down again.
.PHONY: compose images

# Where pip has a folder of wheels, the images are built from it as well, without PyTorch's index.
COMPOSE_WHEELS = $(or $(WHEELS_DIR),$(firstword $(wildcard $(shell pip config get global.find-links 2>/dev/null))))
COMPOSE = $(if $(COMPOSE_WHEELS),WHEELS_DIR=$(COMPOSE_WHEELS) TORCH_INDEX=) \
  HOST_UID=$(shell id -u) HOST_GID=$(shell id -g) SKYFAN_REVISION=$(shell git rev-parse --short HEAD 2>/dev/null) \
  docker compose

compose: ## the demo job in containers over gRPC (EXECUTORS=3 make compose); report in runs/compose
	@$(COMPOSE) up --build --exit-code-from driver; code=$$?; $(COMPOSE) down --volumes; exit $$code

# What a registry would hold, for `image_uris` of the Terraform module (build_images = false). One manifest for one
# platform: Lambda refuses an index, which attestations would make.
REGISTRY ?= skyfan
TAG ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
PLATFORM ?= linux/amd64
TARGETS = partitioner executor executor-torch aggregator rendezvous

images: ## the services' images, named for a registry (REGISTRY=<account>.dkr.ecr.<region>.amazonaws.com/skyfan TAG=v1)
	@set -e; for target in $(TARGETS); do \
	  docker buildx build --platform $(PLATFORM) --provenance=false --sbom=false \
	    $(if $(COMPOSE_WHEELS),--build-context wheels=$(COMPOSE_WHEELS) --build-arg TORCH_INDEX=) \
	    --file services/Dockerfile --target $$target --tag $(REGISTRY)-$$target:$(TAG) .; \
	done
	@echo 'push each, and give the module:'; echo 'build_images = false'; echo 'image_uris = {'; \
	for target in $(TARGETS); do echo "  $$target = \"$(REGISTRY)-$$target:$(TAG)\""; done; echo '}'
