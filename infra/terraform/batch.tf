# Optional: ranks on AWS Batch, for what Lambda's 15 minutes or its processors do not suffice: `skyfan run --compute batch`
# on Fargate and, where instance types are given, `--compute batch-gpu` on instances with a GPU. Nothing runs, and
# nothing is billed, while there are no jobs.

locals {
  batch     = var.enable_batch ? { this = true } : {}
  batch_gpu = var.enable_batch && length(var.batch_gpu_instance_types) > 0 ? { this = true } : {}

  batch_vcpus    = 4
  batch_arn      = "arn:${local.partition}:batch:${local.region}:${local.account_id}"
  batch_log_name = "/aws/batch/${local.name}-ranks"

  # Each is called as the image that it runs. A task's image for torch is another one, as on Lambda.
  batch_jobs = toset(concat(
    var.enable_batch ? ["executor", "executor-torch"] : [],
    length(local.batch_gpu) > 0 ? ["executor-gpu"] : [],
  ))

  # Names are put together here, and not read from the resources, so that the role can name what is made after it.
  batch_queue_arns = { for name in ["cpu", "gpu"] : name => "${local.batch_arn}:job-queue/${local.name}-${name}" }
  batch_job_arns   = { for name in ["executor", "executor-torch", "executor-gpu"] : name => "${local.batch_arn}:job-definition/${local.name}-${name}" }
}

# --- network: public subnets without a way in; S3 by a gateway endpoint, which costs nothing and spares NAT --------------

data "aws_availability_zones" "batch" {
  #checkov:skip=CKV_AWS_394: the first three are taken by name, so that a zone that AWS adds behind them changes nothing
  for_each = local.batch

  state = "available"

  # Not local zones, which Fargate does not have.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

resource "aws_vpc" "batch" {
  #checkov:skip=CKV2_AWS_11: flow logs would cost by the gigabyte that ranks read, and S3's own logs tell the same
  for_each = local.batch

  cidr_block           = var.batch_vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = "${local.name}-batch" }
}

resource "aws_default_security_group" "batch" {
  for_each = aws_vpc.batch

  vpc_id = each.value.id
}

# Several zones: GPUs are scarce, and each zone has its own.
resource "aws_subnet" "batch" {
  #checkov:skip=CKV_AWS_130: instances need an address to reach the image registry, and nothing is let in
  for_each = { for number in range(var.enable_batch ? 3 : 0) : tostring(number) => number }

  vpc_id                  = aws_vpc.batch["this"].id
  cidr_block              = cidrsubnet(var.batch_vpc_cidr, 2, each.value)
  availability_zone       = data.aws_availability_zones.batch["this"].names[each.value % length(data.aws_availability_zones.batch["this"].names)]
  map_public_ip_on_launch = true
  tags                    = { Name = "${local.name}-batch-${each.key}" }
}

resource "aws_internet_gateway" "batch" {
  for_each = aws_vpc.batch

  vpc_id = each.value.id
  tags   = { Name = "${local.name}-batch" }
}

resource "aws_route_table" "batch" {
  for_each = aws_vpc.batch

  vpc_id = each.value.id
  tags   = { Name = "${local.name}-batch" }
}

resource "aws_route" "batch" {
  for_each = aws_route_table.batch

  route_table_id         = each.value.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.batch[each.key].id
}

resource "aws_route_table_association" "batch" {
  for_each = aws_subnet.batch

  route_table_id = aws_route_table.batch["this"].id
  subnet_id      = each.value.id
}

resource "aws_vpc_endpoint" "batch_s3" {
  for_each = aws_vpc.batch

  vpc_id            = each.value.id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.batch[each.key].id]
  tags              = { Name = "${local.name}-batch-s3" }
}

resource "aws_security_group" "batch" {
  #checkov:skip=CKV2_AWS_5: the compute environments use it; checkov loses the thread at for_each
  for_each = aws_vpc.batch

  name        = "${local.name}-batch"
  description = "Nothing in, AWS endpoints and S3 out"
  vpc_id      = each.value.id
}

resource "aws_vpc_security_group_egress_rule" "batch" {
  for_each = aws_security_group.batch

  security_group_id = each.value.id
  description       = "Storage, image registry and logs, whose addresses are not fixed"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

# --- who may do what -----------------------------------------------------------------------------------------------------

resource "aws_iam_role" "batch_rank" {
  for_each = local.batch

  name               = "${local.global_name}-rank"
  description        = "Skyfan's ranks on AWS Batch"
  assume_role_policy = data.aws_iam_policy_document.trust["batch"].json
}

resource "aws_iam_role_policy" "batch_rank" {
  for_each = local.batch

  name   = "least-privilege"
  role   = aws_iam_role.batch_rank[each.key].id
  policy = data.aws_iam_policy_document.storage["executor"].json
}

data "aws_iam_policy_document" "batch_start" {
  for_each = local.batch

  source_policy_documents = [data.aws_iam_policy_document.pull["batch"].json]

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.batch[each.key].arn}:*"]
  }
}

# Starts tasks (image and log); what runs in them has the role above.
resource "aws_iam_role" "batch_start" {
  for_each = local.batch

  name               = "${local.global_name}-batch"
  description        = "Starts Skyfan's tasks of AWS Batch"
  assume_role_policy = data.aws_iam_policy_document.trust["batch"].json
}

resource "aws_iam_role_policy" "batch_start" {
  for_each = local.batch

  name   = "least-privilege"
  role   = aws_iam_role.batch_start[each.key].id
  policy = data.aws_iam_policy_document.batch_start[each.key].json
}

# The instances themselves: AWS's own policy for machines that join a cluster of ECS, as Batch documents it.
resource "aws_iam_role" "batch_instance" {
  for_each = local.batch_gpu

  name               = "${local.global_name}-gpu"
  description        = "Instances on which Skyfan's GPU tasks run"
  assume_role_policy = data.aws_iam_policy_document.trust["batch_instance"].json
}

resource "aws_iam_role_policy_attachment" "batch_instance" {
  for_each = aws_iam_role.batch_instance

  role       = each.value.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
}

resource "aws_iam_instance_profile" "batch_instance" {
  for_each = aws_iam_role.batch_instance

  name = each.value.name
  role = each.value.name
}

# --- queues, and what they start -----------------------------------------------------------------------------------------

resource "aws_batch_compute_environment" "cpu" {
  for_each = local.batch

  name = "${local.name}-cpu"
  type = "MANAGED"

  compute_resources {
    type               = "FARGATE"
    max_vcpus          = var.batch_max_tasks * local.batch_vcpus
    subnets            = values(aws_subnet.batch)[*].id
    security_group_ids = [aws_security_group.batch["this"].id]
  }
}

resource "aws_batch_compute_environment" "gpu" {
  for_each = local.batch_gpu

  name = "${local.name}-gpu"
  type = "MANAGED"

  compute_resources {
    type = var.batch_gpu_spot ? "SPOT" : "EC2"
    # By price, and where an interruption is least likely: ranks that are interrupted are computed again.
    allocation_strategy = var.batch_gpu_spot ? "SPOT_PRICE_CAPACITY_OPTIMIZED" : "BEST_FIT_PROGRESSIVE"
    instance_role       = aws_iam_instance_profile.batch_instance["this"].arn
    instance_type       = var.batch_gpu_instance_types
    min_vcpus           = 0 # no machine without a job
    max_vcpus           = var.batch_gpu_max_vcpus
    subnets             = values(aws_subnet.batch)[*].id
    security_group_ids  = [aws_security_group.batch["this"].id]
    tags                = { Name = "${local.name}-gpu" }

    ec2_configuration {
      image_type = "ECS_AL2023_NVIDIA"
    }
  }

  depends_on = [aws_iam_role_policy_attachment.batch_instance]
}

resource "aws_batch_job_queue" "cpu" {
  for_each = local.batch

  name     = "${local.name}-cpu"
  state    = "ENABLED"
  priority = 1

  compute_environment_order {
    order               = 1
    compute_environment = aws_batch_compute_environment.cpu[each.key].arn
  }
}

resource "aws_batch_job_queue" "gpu" {
  for_each = local.batch_gpu

  name     = "${local.name}-gpu"
  state    = "ENABLED"
  priority = 1

  compute_environment_order {
    order               = 1
    compute_environment = aws_batch_compute_environment.gpu[each.key].arn
  }
}

resource "aws_cloudwatch_log_group" "batch" {
  #checkov:skip=CKV_AWS_158: logs carry names and timings, no data; CloudWatch's own encryption at rest is enough
  #checkov:skip=CKV_AWS_338: a year of logs is the caller's choice and price: var.log_retention_days
  for_each = local.batch

  name              = local.batch_log_name
  retention_in_days = var.log_retention_days
}

resource "aws_batch_job_definition" "this" {
  #checkov:skip=CKV_AWS_210: no container is privileged
  for_each = local.batch_jobs

  name                  = "${local.name}-${each.key}"
  type                  = "container"
  platform_capabilities = [each.key == "executor-gpu" ? "EC2" : "FARGATE"]
  propagate_tags        = true

  # What the state machine fills in at each run.
  parameters = { output = "", start = "", tasks = "1" }

  container_properties = jsonencode(merge(
    {
      image            = local.image_uris[each.value]
      command          = ["python", "-m", "services.executor.job", "Ref::output", "--start", "Ref::start", "--tasks", "Ref::tasks"]
      jobRoleArn       = aws_iam_role.batch_rank["this"].arn
      executionRoleArn = aws_iam_role.batch_start["this"].arn
      resourceRequirements = concat(
        [
          { type = "VCPU", value = tostring(local.batch_vcpus) },
          { type = "MEMORY", value = each.key == "executor-gpu" ? "14000" : "8192" },
        ],
        each.key == "executor-gpu" ? [{ type = "GPU", value = "1" }] : [],
      )
      environment = concat(
        [
          { name = "AWS_REGION", value = local.region },
          { name = "SKYFAN_LOG_LEVEL", value = lower(var.log_level) },
        ],
        each.key == "executor-gpu" ? [{ name = "SKYFAN_DEVICE", value = "cuda" }] : [],
      )
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.batch["this"].name
          awslogs-region        = local.region
          awslogs-stream-prefix = each.key
        }
      }
    },
    each.key == "executor-gpu" ? {} : {
      networkConfiguration         = { assignPublicIp = "ENABLED" } # instead of NAT
      fargatePlatformConfiguration = { platformVersion = "LATEST" }
      runtimePlatform              = { cpuArchitecture = upper(var.architecture), operatingSystemFamily = "LINUX" }
    },
  ))

  # 75 is a rank's own "try again"; Spot takes a machine away, and registries and networks have bad moments.
  retry_strategy {
    attempts = 5

    evaluate_on_exit {
      on_exit_code = "75"
      action       = "RETRY"
    }
    evaluate_on_exit {
      on_status_reason = "Host EC2*"
      action           = "RETRY"
    }
    evaluate_on_exit {
      on_reason = "CannotPull*"
      action    = "RETRY"
    }
    evaluate_on_exit {
      on_reason = "*"
      action    = "EXIT"
    }
  }

  timeout {
    attempt_duration_seconds = var.batch_task_timeout_s
  }

  lifecycle {
    precondition {
      condition     = local.image_uris[each.value] != ""
      error_message = "With build_images = false and enable_batch, image_uris must name an image for ${each.value}."
    }
  }
}

# The state machine's part: merged into its own policy (iam.tf).
data "aws_iam_policy_document" "pipeline_batch" {
  #checkov:skip=CKV_AWS_356: batch:DescribeJobs knows no narrower resource
  for_each = local.batch

  statement {
    sid     = "SubmitJobs"
    actions = ["batch:SubmitJob"]
    resources = concat(
      [for name, arn in local.batch_queue_arns : arn if name == "cpu" || length(local.batch_gpu) > 0],
      [for name in local.batch_jobs : local.batch_job_arns[name]],
      [for name in local.batch_jobs : "${local.batch_job_arns[name]}:*"], # the revisions
    )
  }

  statement {
    # Jobs have names that AWS makes up: there is nothing narrower to name.
    sid       = "StopJobs"
    actions   = ["batch:TerminateJob"]
    resources = ["${local.batch_arn}:job/*"]
  }

  statement {
    sid       = "FollowJobs"
    actions   = ["batch:DescribeJobs"]
    resources = ["*"] # the action knows no narrower resource
  }

  statement {
    # How Step Functions learns that a job has ended: a rule of this name, which it makes itself.
    sid       = "HearOfJobs"
    actions   = ["events:PutTargets", "events:PutRule", "events:DescribeRule"]
    resources = ["arn:${local.partition}:events:${local.region}:${local.account_id}:rule/StepFunctionsGetEventsForBatchJobsRule"]
  }
}
