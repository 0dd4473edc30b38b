# Lambda goes on with an invocation whose execution was stopped, up to the function's time-out. So the end of an execution
# that did not end by itself, in the console too, goes to the aggregator, which leaves a mark that the ranks look for.

resource "aws_cloudwatch_event_rule" "stopped" {
  name        = "${local.pipeline_name}-stopped"
  description = "Runs of ${local.pipeline_name} that were stopped or timed out: their ranks are told"

  event_pattern = jsonencode({
    source      = ["aws.states"]
    detail-type = ["Step Functions Execution Status Change"]
    detail      = { status = ["ABORTED", "TIMED_OUT"], stateMachineArn = [local.pipeline_arn] }
  })
}

resource "aws_cloudwatch_event_target" "stopped" {
  rule = aws_cloudwatch_event_rule.stopped.name
  arn  = aws_lambda_function.this["aggregator"].arn
}

resource "aws_lambda_permission" "stopped" {
  statement_id  = "stopped-runs"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.this["aggregator"].function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.stopped.arn
}
