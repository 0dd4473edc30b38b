# Who may do what. One role a function and one for the state machine; actions and resources are named one by one.
# tests/terraform/test_iam.py holds the table of what is allowed and what is not.

locals {
  outputs_arns     = [for prefix in var.output_prefixes : "${local.bucket_arn}/${prefix}/*"]
  own_data_arns    = [for prefix in var.data_prefixes : "${local.bucket_arn}/${prefix}/*"]
  own_models_arns  = [for prefix in var.model_prefixes : "${local.bucket_arn}/${prefix}/*"]
  data_arns        = concat(local.own_data_arns, [for arn in var.dataset_arns : "${arn}/*"])
  reads_of_dataset = ["partitioner", "executor", "executor-torch"]

  # What a run makes again. Rank records are <number>.json, for which IAM has no pattern: so every .json under an output
  # prefix, a plan's too, at any depth, as * crosses slashes.
  results_arns = [
    for pair in setproduct(local.outputs_arns, ["predictions/rank-*.parquet", "*.json", "report.html"]) :
    "${pair[0]}/${pair[1]}"
  ]

  # "arn:aws:s3:::bucket" or "arn:aws:s3:::bucket/some/prefix"
  dataset_places = [for arn in var.dataset_arns : {
    bucket_arn = split("/", arn)[0]
    prefix     = join("/", slice(split("/", arn), 1, length(split("/", arn))))
  }]
  dataset_bucket_arns = distinct(local.dataset_places[*].bucket_arn)

  # The partitioner never opens a model, the aggregator neither data nor models.
  reads = {
    partitioner    = concat(local.outputs_arns, local.data_arns)
    executor       = concat(local.outputs_arns, local.data_arns, local.own_models_arns)
    executor-torch = concat(local.outputs_arns, local.data_arns, local.own_models_arns)
    aggregator     = local.outputs_arns
  }
}

# Who takes a role: a service, on behalf of this account's resources where a condition is given.
locals {
  trusted = {
    lambda         = { service = "lambda", of_account = false, source_arns = [] }
    batch          = { service = "ecs-tasks", of_account = true, source_arns = [] }
    batch_instance = { service = "ec2", of_account = false, source_arns = [] }
    sagemaker      = { service = "sagemaker", of_account = true, source_arns = [] }
    rendezvous     = { service = "ecs-tasks", of_account = true, source_arns = ["${local.rendezvous_arn}:*"] }
    # The children of a Distributed Map run as <machine>/<label>, versions and aliases as <machine>:<name>.
    pipeline = {
      service     = "states"
      of_account  = true
      source_arns = [local.pipeline_arn, "${local.pipeline_arn}/*", "${local.pipeline_arn}:*"]
    }
  }
}

data "aws_iam_policy_document" "trust" {
  for_each = local.trusted

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["${each.value.service}.amazonaws.com"]
    }

    dynamic "condition" {
      for_each = each.value.of_account ? [local.account_id] : []

      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [condition.value]
      }
    }

    dynamic "condition" {
      for_each = length(each.value.source_arns) > 0 ? [each.value.source_arns] : []

      content {
        test     = "ArnLike"
        variable = "aws:SourceArn"
        values   = condition.value
      }
    }
  }
}

# What each does in storage. Ranks beside Lambda do what the executor does (batch.tf, sagemaker.tf).
data "aws_iam_policy_document" "storage" {
  for_each = local.functions

  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = distinct(local.reads[each.key])
  }

  statement {
    sid       = "WriteRuns"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload"]
    resources = local.outputs_arns
  }

  statement {
    # Without a condition on the prefix: S3 answers 404 for a missing key only to who may list the bucket (else 403), and
    # that question carries no prefix. "Is this rank done already?" is asked for every rank.
    sid       = "ListOwnBucket"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]
  }

  dynamic "statement" {
    # Objects under SSE-KMS are read by callers who may also use their key, through S3 and not otherwise.
    for_each = contains(local.reads_of_dataset, each.key) && length(var.dataset_kms_key_arns) > 0 ? [true] : []

    content {
      sid       = "DecryptDatasets"
      actions   = ["kms:Decrypt"]
      resources = var.dataset_kms_key_arns

      condition {
        test     = "StringLike"
        variable = "kms:ViaService"
        values   = ["s3.*.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = contains(local.reads_of_dataset, each.key) ? local.dataset_bucket_arns : []

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
}

data "aws_iam_policy_document" "function" {
  for_each = local.functions

  source_policy_documents = [data.aws_iam_policy_document.storage[each.key].json]

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
    for_each = startswith(each.key, "executor") ? { this = true } : {}

    content {
      sid       = "RemoveMessages"
      actions   = ["s3:DeleteObject"]
      resources = [for arn in local.outputs_arns : "${arn}/comm/*"]
    }
  }

  dynamic "statement" {
    for_each = startswith(each.key, "executor") ? aws_secretsmanager_secret.rendezvous_token : {}

    content {
      sid       = "ReadRendezvousToken"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value.arn]
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

  name               = "${local.global_name}-${each.key}"
  description        = "Skyfan's ${each.key} function"
  assume_role_policy = data.aws_iam_policy_document.trust["lambda"].json
}

resource "aws_iam_role_policy" "function" {
  for_each = local.functions

  name   = "least-privilege"
  role   = aws_iam_role.function[each.key].id
  policy = data.aws_iam_policy_document.function[each.key].json
}

data "aws_iam_policy_document" "pipeline" {
  # What runs ranks beside Lambda, where it is deployed (batch.tf, sagemaker.tf).
  source_policy_documents = concat(
    values(data.aws_iam_policy_document.pipeline_batch)[*].json,
    values(data.aws_iam_policy_document.pipeline_sagemaker)[*].json,
  )

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
    resources = local.outputs_arns
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
  name               = "${local.global_name}-pipeline"
  description        = "Skyfan's state machine"
  assume_role_policy = data.aws_iam_policy_document.trust["pipeline"].json
}

resource "aws_iam_role_policy" "pipeline" {
  name   = "least-privilege"
  role   = aws_iam_role.pipeline.id
  policy = data.aws_iam_policy_document.pipeline.json
}

# What a person needs for `skyfan run --on aws` and `skyfan runs`: attach it to a user, group or role that is not an
# administrator already.
data "aws_iam_policy_document" "runner" {
  #checkov:skip=CKV_AWS_356: only actions for which AWS defines no narrower resource have "*"
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
    # `skyfan doctor --on aws` compares them with what a plan needs.
    sid       = "ReadAccountLimits"
    actions   = ["lambda:GetAccountSettings"]
    resources = ["*"] # the action knows no narrower resource
  }

  statement {
    sid       = "ReadQuotas"
    actions   = ["servicequotas:GetServiceQuota"]
    resources = ["arn:${local.partition}:servicequotas:${local.region}:${local.account_id}:lambda/L-B99A9384"]
  }

  statement {
    sid     = "ReadLogs"
    actions = ["logs:FilterLogEvents"]
    resources = concat(
      [for group in concat(values(aws_cloudwatch_log_group.function), values(aws_cloudwatch_log_group.batch)) : "${group.arn}:*"],
      [for _ in keys(local.sagemaker) : "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/sagemaker/ProcessingJobs:*"],
    )
  }

  statement {
    sid       = "DataModelsAndRuns"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    resources = distinct(concat(local.own_data_arns, local.own_models_arns, local.outputs_arns))
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
  name        = "${local.global_name}-runner"
  description = "Start, follow and stop Skyfan runs, put data and models, read results"
  policy      = data.aws_iam_policy_document.runner.json
}
