# Optional: ranks as one processing job of SageMaker, `skyfan run --compute sagemaker`: its instances share the ranks.
# Nothing is made but a role; instances live as long as a job.

locals {
  sagemaker = var.enable_sagemaker ? { this = true } : {}

  # Instances with NVIDIA GPUs are those of the families g and p.
  sagemaker_image = can(regex("^ml\\.[gp][0-9]", var.sagemaker_instance_type)) ? "executor-gpu" : "executor-torch"
}

data "aws_iam_policy_document" "sagemaker" {
  for_each = local.sagemaker

  source_policy_documents = [
    data.aws_iam_policy_document.storage["executor"].json,
    data.aws_iam_policy_document.pull["sagemaker"].json,
  ]

  statement {
    # SageMaker writes there for every processing job, and makes the group where it is missing.
    sid     = "Log"
    actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = [
      "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/sagemaker/ProcessingJobs",
      "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/sagemaker/ProcessingJobs:*",
    ]
  }
}

resource "aws_iam_role" "sagemaker" {
  for_each = local.sagemaker

  name               = "${local.global_name}-sagemaker"
  description        = "Skyfan's ranks on SageMaker"
  assume_role_policy = data.aws_iam_policy_document.trust["sagemaker"].json
}

resource "aws_iam_role_policy" "sagemaker" {
  for_each = local.sagemaker

  name   = "least-privilege"
  role   = aws_iam_role.sagemaker[each.key].id
  policy = data.aws_iam_policy_document.sagemaker[each.key].json
}

# The state machine's part: merged into its own policy (iam.tf).
data "aws_iam_policy_document" "pipeline_sagemaker" {
  for_each = local.sagemaker

  statement {
    # Jobs are named after the execution: there is nothing narrower to name.
    sid       = "ProcessingJobs"
    actions   = ["sagemaker:CreateProcessingJob", "sagemaker:DescribeProcessingJob", "sagemaker:StopProcessingJob", "sagemaker:AddTags", "sagemaker:ListTags"]
    resources = ["arn:${local.partition}:sagemaker:${local.region}:${local.account_id}:processing-job/*"]
  }

  statement {
    sid       = "GiveJobsTheirRole"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.sagemaker["this"].arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["sagemaker.amazonaws.com"]
    }
  }

  statement {
    # How Step Functions learns that a job has ended: a rule of this name, which it makes itself.
    sid       = "HearOfProcessingJobs"
    actions   = ["events:PutTargets", "events:PutRule", "events:DescribeRule"]
    resources = ["arn:${local.partition}:events:${local.region}:${local.account_id}:rule/StepFunctionsGetEventsForSageMakerProcessingJobsRule"]
  }
}
