# The pipeline as on AWS, on this machine: `make localstack-up`, then `skyfan run --on localstack …`.
# A compose project of its own, so that taking it away leaves `docker compose up` alone.
.PHONY: localstack-up localstack-down

# Where pip has a folder of wheels, the images are built from it as well, without PyTorch's index.
LOCALSTACK_COMPOSE = $(if $(COMPOSE_WHEELS),WHEELS_DIR=$(COMPOSE_WHEELS) TORCH_INDEX=) \
  docker compose --project-name skyfan-localstack --profile stepfunctions

localstack-up: ## LocalStack with functions, Batch, SageMaker, state machine, buckets and s3://skyfan-data/demo.pt
	@$(LOCALSTACK_COMPOSE) build localstack partitioner executor lambda-executor aggregator driver
	@$(LOCALSTACK_COMPOSE) up --detach localstack lambda-partitioner lambda-executor lambda-executor-torch lambda-aggregator schedulers
	@$(LOCALSTACK_COMPOSE) run --rm --entrypoint "python -m skyfan_compose.pipeline" stepfunctions
	@echo "next: skyfan run --on localstack --dataset s3://skyfan-data/demo.pt --partition-size 1MB --output s3://skyfan-results/demo"

localstack-down: ## take it away, with everything in it
	@$(LOCALSTACK_COMPOSE) down --volumes --remove-orphans
