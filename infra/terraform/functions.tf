# The services as Lambda functions: the images that also serve gRPC, entered through the Lambda runtime interface.

resource "aws_cloudwatch_log_group" "function" {
  #checkov:skip=CKV_AWS_158: logs carry names and timings, no data; CloudWatch's own encryption at rest is enough
  #checkov:skip=CKV_AWS_338: a year of logs is the caller's choice and price: var.log_retention_days
  for_each = local.functions

  name              = "/aws/lambda/${local.name}-${each.key}"
  retention_in_days = var.log_retention_days
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_50: the services measure themselves in every rank record; X-Ray would add its price and a right on "*"
  #checkov:skip=CKV_AWS_115: reserving concurrency fails in a new account, which has none to give; MaxConcurrency bounds the map
  #checkov:skip=CKV_AWS_116: a dead letter queue serves asynchronous calls; Step Functions calls and handles failures itself
  #checkov:skip=CKV_AWS_117: the functions talk to S3 only; a VPC would add NAT at $32 a month and slower starts
  #checkov:skip=CKV_AWS_173: the environment holds no secret
  #checkov:skip=CKV_AWS_272: code signing does not exist for image functions; tags are immutable hashes of the content
  for_each = local.functions

  function_name                  = "${local.name}-${each.key}"
  description                    = each.value.description
  role                           = aws_iam_role.function[each.key].arn
  package_type                   = "Image"
  image_uri                      = local.image_uris[each.key]
  architectures                  = [var.architecture]
  memory_size                    = each.value.memory_mb
  timeout                        = each.value.timeout_s
  reserved_concurrent_executions = each.value.reserved_concurrency

  image_config {
    # The images' own command starts the gRPC server.
    entry_point = ["python", "-m", "awslambdaric"]
    command     = ["services.${trimsuffix(each.key, "-torch")}.lambda_handler.handler"]
  }

  ephemeral_storage {
    size = each.value.ephemeral_mb
  }

  environment {
    variables = merge(
      { SKYFAN_LOG_LEVEL = lower(var.log_level) },
      # A plan whose ranks would take longer than a rank may is refused before anything is paid for, and no run gets more
      # ranks at once than the deployment allows, whatever it asks for.
      each.key == "partitioner" ? {
        SKYFAN_RANK_LIMIT_S    = tostring(var.executor_timeout_s)
        SKYFAN_MAP_CONCURRENCY = tostring(var.map_concurrency)
        SKYFAN_COMPUTES        = join(",", [for name, tasks in local.computes : "${name}=${tasks}"])
      } : {},
      lookup(local.rendezvous_environment, each.key, {}),
    )
  }

  lifecycle {
    precondition {
      condition     = local.image_uris[each.key] != ""
      error_message = "With build_images = false, image_uris must name an image for ${each.key}."
    }
  }

  depends_on = [
    aws_cloudwatch_log_group.function, # else Lambda makes the group itself, without retention
    aws_ecr_repository_policy.this,
    aws_iam_role_policy.function,
    terraform_data.image,
  ]
}
