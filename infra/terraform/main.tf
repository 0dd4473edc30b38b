# Skyfan on AWS: a bucket, four Lambda functions from container images (the executor twice, with torch and without), and the state machine that fans them out.
# One file a concern: storage, images, iam, functions, workflow, observability, rendezvous.

provider "aws" {
  region = var.region

  default_tags {
    tags = merge(
      {
        application = "skyfan"
        managed_by  = "terraform"
        name_prefix = local.name
      },
      var.environment == "" ? {} : { environment = var.environment },
      var.tags,
    )
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  name       = var.environment == "" ? var.name_prefix : "${var.name_prefix}-${var.environment}"
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id

  # Roles, policies, dashboards and budgets have one name an account, whatever the region.
  global_name = "${local.name}-${local.region}"

  # Names are put together here, and not read from the resources, where a role must name what is made after it.
  pipeline_name = "${local.name}-pipeline"
  pipeline_arn  = "arn:${local.partition}:states:${local.region}:${local.account_id}:stateMachine:${local.pipeline_name}"

  functions = {
    partitioner = {
      description          = "Cuts a dataset into sample ranges, one plan item a rank"
      memory_mb            = var.partitioner_memory_mb
      timeout_s            = var.partitioner_timeout_s
      ephemeral_mb         = 512
      reserved_concurrency = -1
    }
    executor = {
      description          = "Runs the model over one rank's samples"
      memory_mb            = var.executor_memory_mb
      timeout_s            = var.executor_timeout_s
      ephemeral_mb         = var.executor_ephemeral_mb
      reserved_concurrency = var.executor_reserved_concurrency
    }
    executor-torch = {
      description          = "Tries and converts the model, and runs ranks of models that only torch runs"
      memory_mb            = var.executor_memory_mb
      timeout_s            = var.executor_timeout_s
      ephemeral_mb         = var.executor_ephemeral_mb
      reserved_concurrency = -1
    }
    aggregator = {
      description          = "Accounts for every rank and merges the results"
      memory_mb            = var.aggregator_memory_mb
      timeout_s            = var.aggregator_timeout_s
      ephemeral_mb         = 512
      reserved_concurrency = -1
    }
  }
}
