# One dashboard and one alarm for each way in which a run goes wrong.

locals {
  metrics_namespace = "Skyfan" # as services/*/lambda_handler.py write it
  # us-east-1, per GB-second; other regions differ by up to a third.
  usd_per_gb_s    = var.architecture == "arm64" ? 0.0000133334 : 0.0000166667
  usd_per_request = 0.0000002

  function_alarms = {
    for pair in setproduct(keys(local.functions), ["Errors", "Throttles"]) : "${pair[0]}-${lower(pair[1])}" => {
      service = pair[0]
      metric  = pair[1]
    }
  }
  pipeline_alarms = {
    failed    = "ExecutionsFailed"
    timed-out = "ExecutionsTimedOut"
    throttled = "ExecutionThrottled"
  }

  alarm_topic_arns = concat(var.alarm_topic_arns, values(aws_sns_topic.alarms)[*].arn)
}

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26: alarms carry names and numbers, no data; SNS's own encryption in transit is enough
  for_each = var.create_alarms && var.alarm_email != "" ? { this = true } : {}

  name = "${local.name}-alarms"
}

# SNS asks that address whether it wants them, by a mail whose link somebody has to follow.
resource "aws_sns_topic_subscription" "alarms" {
  for_each = aws_sns_topic.alarms

  topic_arn = each.value.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "function" {
  for_each = var.create_alarms ? local.function_alarms : {}

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = "${each.value.metric} of ${local.name}-${each.value.service}; see its log group, and docs/how-to/deploy.md on troubleshooting."
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = { FunctionName = aws_lambda_function.this[each.value.service].function_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
}

resource "aws_cloudwatch_metric_alarm" "pipeline" {
  for_each = var.create_alarms ? local.pipeline_alarms : {}

  alarm_name          = "${local.pipeline_name}-${each.key}"
  alarm_description   = "${each.value} of ${local.pipeline_name}; `skyfan runs list` names the runs."
  namespace           = "AWS/States"
  metric_name         = each.value
  dimensions          = { StateMachineArn = aws_sfn_state_machine.pipeline.arn }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
}

locals {
  # Metric rows in CloudWatch's own notation: ranks run in either function, by what their model needs.
  executor_metrics = {
    for name in ["ConcurrentExecutions", "Invocations", "Errors", "Throttles", "Duration"] : name => [
      for service in ["executor", "executor-torch"] : ["AWS/Lambda", name, "FunctionName", "${local.name}-${service}"]
    ]
  }
  # Names of metrics in expressions hold no hyphen.
  metric_id = { for service in keys(local.functions) : service => replace(service, "-", "_") }

  billed_seconds = {
    for service in keys(local.functions) : service => [
      "AWS/Lambda", "Duration", "FunctionName", "${local.name}-${service}",
      { id = "ms_${local.metric_id[service]}", stat = "Sum", visible = false },
    ]
  }
  invocations = {
    for service in keys(local.functions) : service => [
      "AWS/Lambda", "Invocations", "FunctionName", "${local.name}-${service}",
      { id = "calls_${local.metric_id[service]}", stat = "Sum", visible = false },
    ]
  }
  cost_expression = join(" + ", [
    for service, function in local.functions :
    "ms_${local.metric_id[service]} / 1000 * ${function.memory_mb / 1024} * ${local.usd_per_gb_s} + calls_${local.metric_id[service]} * ${local.usd_per_request}"
  ])

  # What the services count themselves (embedded metric format), summed over whatever dimensions they carry.
  samples_search    = "SEARCH('Namespace=\"${local.metrics_namespace}\" MetricName=\"Samples\" service=\"executor\"', 'Sum', 60)"
  cold_start_search = "SEARCH('Namespace=\"${local.metrics_namespace}\" MetricName=\"ColdStart\" service=\"executor\"', 'Sum', 60)"

  widgets = [
    { title = "Ranks running", stat = "Maximum", metrics = local.executor_metrics.ConcurrentExecutions },
    { title = "Ranks started, failed and throttled", stat = "Sum", metrics = concat(local.executor_metrics.Invocations, local.executor_metrics.Errors, local.executor_metrics.Throttles) },
    { title = "Samples per second", stat = "Sum", metrics = [[{ expression = "SUM(${local.samples_search}) / 60", label = "samples/s" }]] },
    { title = "Cold starts", stat = "Sum", metrics = [[{ expression = "SUM(${local.cold_start_search})", label = "cold starts" }]] },
    {
      title = "Time of a rank (ms)"
      stat  = "p50"
      metrics = concat([
        for metric in local.executor_metrics.Duration : [
          concat(metric, [{ stat = "p50", label = "${metric[3]} p50" }]),
          concat(metric, [{ stat = "p99", label = "${metric[3]} p99" }]),
        ]
      ]...)
    },
    {
      title = "Cost of the functions (USD a minute, cold starts' initialisation left out)"
      stat  = "Sum"
      metrics = concat(
        [[{ expression = local.cost_expression, label = "USD" }]],
        values(local.billed_seconds),
        values(local.invocations),
      )
    },
    {
      title = "Runs"
      stat  = "Sum"
      metrics = [
        for name in ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"] :
        ["AWS/States", name, "StateMachineArn", local.pipeline_arn]
      ]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.create_dashboard ? 1 : 0

  dashboard_name = local.global_name
  dashboard_body = jsonencode({
    widgets = [
      for number, widget in local.widgets : {
        type   = "metric"
        x      = 12 * (number % 2)
        y      = 6 * floor(number / 2)
        width  = 12
        height = 6
        properties = {
          title   = widget.title
          view    = "timeSeries"
          region  = local.region
          period  = 60
          stat    = widget.stat
          metrics = widget.metrics
        }
      }
    ]
  })
}
