# The state machine is infra/stepfunctions/pipeline.asl.json, the file that the tests run offline too.

locals {
  execution_arn = replace(local.pipeline_arn, ":stateMachine:", ":execution:")

  definition = templatefile("${path.module}/../stepfunctions/pipeline.asl.json", {
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
