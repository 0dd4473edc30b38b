# The state machine is infra/stepfunctions/pipeline.asl.json, the file that the tests run offline too; batch.asl.json and
# sagemaker.asl.json beside it are merged in where they are deployed.

locals {
  execution_arn = replace(local.pipeline_arn, ":stateMachine:", ":execution:")

  # What computes ranks beside Lambda, and how many of its tasks run at once.
  computes = merge(
    var.enable_batch ? { batch = var.batch_max_tasks } : {},
    length(local.batch_gpu) > 0 ? { batch-gpu = max(1, floor(var.batch_gpu_max_vcpus / local.batch_vcpus)) } : {},
    var.enable_sagemaker ? { sagemaker = var.sagemaker_max_instances } : {},
  )

  # Of a run's time, what is left to plan before an array of tasks and to merge after it.
  array_timeout_s = max(60, var.run_timeout_s - 3600)

  # Their branches of the state machine. A branch that is not deployed must not be there: Step Functions makes a rule for
  # each kind of job that it waits for, and the role may only make those that it needs.
  branches = concat(
    [for _ in keys(local.batch) : jsondecode(templatefile("${path.module}/../stepfunctions/batch.asl.json", {
      batch_queue_arn     = local.batch_queue_arns["cpu"]
      batch_job_arn       = local.batch_job_arns["executor"]
      batch_torch_job_arn = local.batch_job_arns["executor-torch"]
      batch_gpu_queue_arn = local.batch_queue_arns["gpu"]
      batch_gpu_job_arn   = local.batch_job_arns["executor-gpu"]
      batch_log_group     = local.batch_log_name
      batch_timeout_s     = local.array_timeout_s
    }))],
    [for _ in keys(local.sagemaker) : jsondecode(templatefile("${path.module}/../stepfunctions/sagemaker.asl.json", {
      sagemaker_role_arn      = aws_iam_role.sagemaker["this"].arn
      sagemaker_image_uri     = local.image_uris[local.sagemaker_image]
      sagemaker_instance_type = var.sagemaker_instance_type
      sagemaker_runtime_s     = min(432000, max(60, local.array_timeout_s - 600))
      sagemaker_timeout_s     = local.array_timeout_s
      log_level               = lower(var.log_level)
    }))],
  )
  pipeline = try(jsondecode(local.pipeline_text), { States = { Convert = {} } })
  choice = {
    Convert      = merge(local.pipeline.States.Convert, { Next = "WhichCompute" })
    WhichCompute = { Type = "Choice", Choices = flatten(local.branches[*].Choices), Default = "WhichExecutor" }
  }
  definition = length(local.branches) == 0 ? local.pipeline_text : jsonencode(merge(local.pipeline, {
    States = merge(concat([local.pipeline.States], local.branches[*].States, [local.choice])...)
  }))

  pipeline_text = templatefile("${path.module}/../stepfunctions/pipeline.asl.json", {
    partitioner_arn    = aws_lambda_function.this["partitioner"].arn
    executor_arn       = aws_lambda_function.this["executor"].arn
    executor_torch_arn = aws_lambda_function.this["executor-torch"].arn
    aggregator_arn     = aws_lambda_function.this["aggregator"].arn

    # A task waits a little longer than its function may take, so that the function's own time-out names the cause.
    partitioner_timeout_s = var.partitioner_timeout_s + 90
    executor_timeout_s    = var.executor_timeout_s + 90
    aggregator_timeout_s  = var.aggregator_timeout_s + 90
    execution_timeout_s   = var.run_timeout_s
  })
}

resource "aws_cloudwatch_log_group" "pipeline" {
  #checkov:skip=CKV_AWS_158: the log holds state names and causes, no data; CloudWatch's own encryption at rest is enough
  #checkov:skip=CKV_AWS_338: a year of logs is the caller's choice and price: var.log_retention_days
  name              = "/aws/vendedlogs/states/${local.pipeline_name}"
  retention_in_days = var.log_retention_days
}

resource "aws_sfn_state_machine" "pipeline" {
  #checkov:skip=CKV_AWS_284: the run's summary holds every state's and rank's time; X-Ray would add its price and a right on "*"
  #checkov:skip=CKV_AWS_285: errors are logged; ALL would log each of 10,000 ranks' children several times over
  name       = local.pipeline_name
  role_arn   = aws_iam_role.pipeline.arn
  type       = "STANDARD"
  definition = local.definition

  logging_configuration {
    level = "ERROR"
    # The execution itself keeps its input; a log need not repeat where somebody's data lie.
    include_execution_data = false
    log_destination        = "${aws_cloudwatch_log_group.pipeline.arn}:*"
  }

  lifecycle {
    precondition {
      condition     = can(jsondecode(local.definition).StartAt) && can(keys(jsondecode(local.definition).States))
      error_message = "infra/stepfunctions/pipeline.asl.json, rendered, is not a JSON object with StartAt and States."
    }
  }

  depends_on = [aws_iam_role_policy.pipeline]
}
