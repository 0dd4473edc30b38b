# Who may do what. One role a function and one for the state machine; actions and resources are named one by one.
# tests/terraform/test_iam.py holds the table of what is allowed and what is not.

locals {
  bucket_arn  = aws_s3_bucket.this.arn
  runs_arn    = "${local.bucket_arn}/runs/*"
  data_arns   = concat(["${local.bucket_arn}/data/*"], [for arn in var.dataset_arns : "${arn}/*"])
  models_arns = ["${local.bucket_arn}/models/*"]

  # What a run makes again. Rank records are <number>.json, for which IAM has no pattern: so every .json under runs/,
  # a plan's too, at any depth, as * crosses slashes.
  results_arns = [
    for name in ["predictions/rank-*.parquet", "*.json", "report.html"] : "${local.bucket_arn}/runs/*/${name}"
  ]

  # "arn:aws:s3:::bucket" or "arn:aws:s3:::bucket/some/prefix"
  dataset_places = [for arn in var.dataset_arns : {
    bucket_arn = split("/", arn)[0]
    prefix     = join("/", slice(split("/", arn), 1, length(split("/", arn))))
  }]
  dataset_bucket_arns = distinct(local.dataset_places[*].bucket_arn)

  # The partitioner never opens a model, the aggregator neither data nor models.
  reads = {
    partitioner = concat([local.runs_arn], local.data_arns)
    executor    = concat([local.runs_arn], local.data_arns, local.models_arns)
    aggregator  = [local.runs_arn]
  }
}

data "aws_iam_policy_document" "lambda_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "function" {
  for_each = local.functions

  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = local.reads[each.key]
  }

  statement {
    sid       = "WriteRuns"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
    resources = [local.runs_arn]
  }

  dynamic "statement" {
    # --no-resume: what an earlier start of the same run committed is removed while the run is planned.
    for_each = each.key == "partitioner" ? [local.results_arns] : []

    content {
      sid       = "RemoveEarlierResults"
      actions   = ["s3:DeleteObject"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    # Messages between ranks that meet in the run's folder (--collectives without the rendezvous service).
    for_each = each.key == "executor" ? { this = true } : {}

    content {
      sid       = "RemoveMessages"
      actions   = ["s3:DeleteObject"]
      resources = ["${local.bucket_arn}/runs/*/comm/*"]
    }
  }

  dynamic "statement" {
    for_each = each.key == "executor" ? aws_secretsmanager_secret.rendezvous_token : {}

    content {
      sid       = "ReadRendezvousToken"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value.arn]
    }
  }

  statement {
    # Without a condition on the prefix: S3 answers 404 for a missing key only to who may list the bucket (else 403), and
    # that question carries no prefix. "Is this rank done already?" is asked for every rank.
    sid       = "ListOwnBucket"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]
  }

  dynamic "statement" {
    for_each = each.key == "aggregator" ? [] : local.dataset_bucket_arns

    content {
      sid       = "ListDatasets${statement.key}"
      actions   = ["s3:ListBucket"]
      resources = [statement.value]

      condition {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = [for place in local.dataset_places : place.prefix == "" ? "*" : "${place.prefix}/*" if place.bucket_arn == statement.value]
      }
    }
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"]
  }
}

resource "aws_iam_role" "function" {
  for_each = local.functions

  name               = "${local.name}-${each.key}"
  description        = "Skyfan's ${each.key} function"
  assume_role_policy = data.aws_iam_policy_document.lambda_trust.json
}

resource "aws_iam_role_policy" "function" {
  for_each = local.functions

  name   = "least-privilege"
  role   = aws_iam_role.function[each.key].id
  policy = data.aws_iam_policy_document.function[each.key].json
}

data "aws_iam_policy_document" "pipeline_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["states.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = [local.pipeline_arn]
    }
  }
}

data "aws_iam_policy_document" "pipeline" {
  #checkov:skip=CKV_AWS_356: only the log delivery actions have "*", and AWS defines no narrower resource for them
  #checkov:skip=CKV_AWS_111: the same log delivery actions; AWS offers no condition keys for them
  statement {
    sid       = "InvokeFunctions"
    actions   = ["lambda:InvokeFunction"]
    resources = [for service in keys(local.functions) : aws_lambda_function.this[service].arn]
  }

  statement {
    # ItemReader reads the plan's items, ResultWriter writes beside them and Catch writes the cause.
    sid       = "ItemsAndResults"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"]
    resources = [local.runs_arn]
  }

  statement {
    # A Distributed Map starts its children as executions of the machine that it is part of.
    sid       = "StartChildren"
    actions   = ["states:StartExecution"]
    resources = [local.pipeline_arn]
  }

  statement {
    sid       = "FollowAndStopChildren"
    actions   = ["states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"]
    resources = ["${local.execution_arn}/*:*"]
  }

  statement {
    sid = "DeliverLogs"
    actions = [
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeLogGroups",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
    ]
    # AWS knows no narrower resource for these.
    resources = ["*"]
  }
}

resource "aws_iam_role" "pipeline" {
  name               = local.pipeline_name
  description        = "Skyfan's state machine"
  assume_role_policy = data.aws_iam_policy_document.pipeline_trust.json
}

resource "aws_iam_role_policy" "pipeline" {
  name   = "least-privilege"
  role   = aws_iam_role.pipeline.id
  policy = data.aws_iam_policy_document.pipeline.json
}

# What a person needs for `skyfan run --on aws` and `skyfan runs`: attach it to a user, group or role that is not an
# administrator already.
data "aws_iam_policy_document" "runner" {
  #checkov:skip=CKV_AWS_356: only states:ListStateMachines has "*", as AWS defines it
  statement {
    sid       = "FindThePipeline"
    actions   = ["states:ListStateMachines"]
    resources = ["*"] # the action knows no narrower resource
  }

  statement {
    sid       = "StartRuns"
    actions   = ["states:StartExecution", "states:DescribeStateMachine", "states:ListExecutions"]
    resources = [local.pipeline_arn]
  }

  statement {
    sid = "FollowRuns"
    actions = [
      "states:DescribeExecution",
      "states:GetExecutionHistory",
      "states:ListMapRuns",
      "states:RedriveExecution",
      "states:StopExecution",
    ]
    resources = ["${local.execution_arn}:*"]
  }

  statement {
    sid       = "FollowRanks"
    actions   = ["states:DescribeMapRun", "states:ListExecutions"]
    resources = ["${replace(local.pipeline_arn, ":stateMachine:", ":mapRun:")}/*:*"]
  }

  statement {
    sid       = "ReadFunctionSizes"
    actions   = ["lambda:GetFunctionConfiguration"]
    resources = [for service in keys(local.functions) : aws_lambda_function.this[service].arn]
  }

  statement {
    # `skyfan comm check --on aws`: every rank is an invocation.
    sid       = "CheckCommunication"
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.this["executor"].arn]
  }

  statement {
    sid       = "ReadLogs"
    actions   = ["logs:FilterLogEvents"]
    resources = [for group in values(aws_cloudwatch_log_group.function) : "${group.arn}:*"]
  }

  statement {
    sid       = "DataModelsAndRuns"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    resources = ["${local.bucket_arn}/data/*", "${local.bucket_arn}/models/*", local.runs_arn]
  }

  statement {
    sid       = "ListBucket"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]
  }

  dynamic "statement" {
    for_each = aws_secretsmanager_secret.rendezvous_token

    content {
      sid       = "ReadRendezvousToken"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value.arn]
    }
  }
}

resource "aws_iam_policy" "runner" {
  name        = "${local.name}-runner"
  description = "Start, follow and stop Skyfan runs, put data and models, read results"
  policy      = data.aws_iam_policy_document.runner.json
}
