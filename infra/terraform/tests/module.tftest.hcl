# `terraform test` needs neither an account nor a network: every resource and data source is mocked.
mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { id = "eu-west-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/mock" }
  }
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-west-1:123456789012:function:mock" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:mock" }
  }
  mock_resource "aws_sfn_state_machine" {
    defaults = { arn = "arn:aws:states:eu-west-1:123456789012:stateMachine:mock" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b"] }
  }
  mock_resource "aws_iam_instance_profile" {
    defaults = { arn = "arn:aws:iam::123456789012:instance-profile/mock" }
  }
  mock_resource "aws_batch_compute_environment" {
    defaults = { arn = "arn:aws:batch:eu-west-1:123456789012:compute-environment/mock" }
  }
  mock_resource "aws_batch_job_definition" {
    defaults = { arn = "arn:aws:batch:eu-west-1:123456789012:job-definition/mock:1" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/mock/0123456789abcdef" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/mock/0123456789abcdef" }
  }
}

variables {
  build_images = false
  image_uris = {
    partitioner    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/p:v1"
    executor       = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/e:v1"
    executor-torch = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/t:v1"
    aggregator     = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:v1"
    rendezvous     = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/r:v1"
    executor-gpu   = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/g:v1"
  }
}

run "defaults_suit_a_new_account" {
  command = plan

  assert {
    condition     = alltrue([for f in values(aws_lambda_function.this) : f.memory_size <= 3008 && f.timeout <= 900])
    error_message = "a new account allows 3,008 MB a function, Lambda 900 s"
  }
  assert {
    condition     = alltrue([for f in values(aws_lambda_function.this) : f.reserved_concurrent_executions == -1])
    error_message = "a new account has no concurrency to reserve"
  }
  assert {
    condition     = sort([for f in values(aws_lambda_function.this) : f.function_name]) == tolist(["skyfan-aggregator", "skyfan-executor", "skyfan-executor-torch", "skyfan-partitioner"])
    error_message = "the names that the CLI looks for"
  }
  assert {
    condition     = aws_s3_bucket.this["this"].bucket == "skyfan-123456789012-eu-west-1" && aws_s3_bucket.this["this"].force_destroy == false
    error_message = "one bucket an account and region, kept on destroy"
  }
  assert {
    condition     = aws_s3_bucket_public_access_block.this["this"].block_public_acls && aws_s3_bucket_public_access_block.this["this"].block_public_policy && aws_s3_bucket_public_access_block.this["this"].ignore_public_acls && aws_s3_bucket_public_access_block.this["this"].restrict_public_buckets
    error_message = "the bucket is private"
  }
  assert {
    condition     = length(aws_ecs_service.rendezvous) == 0 && length(aws_vpc.rendezvous) == 0 && length(aws_lb.rendezvous) == 0 && length(aws_batch_compute_environment.cpu) == 0 && length(aws_vpc.batch) == 0
    error_message = "nothing that costs by the hour unless asked for"
  }
  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this["this"].rule) == 1
    error_message = "results are kept unless results_expire_days is set"
  }
}

run "state_machine_is_the_repositorys" {
  command = apply

  override_resource {
    target = aws_lambda_function.this["aggregator"]
    values = { arn = "arn:aws:lambda:eu-west-1:123456789012:function:skyfan-aggregator" }
  }

  assert {
    condition     = aws_sfn_state_machine.pipeline.name == "skyfan-pipeline" && aws_sfn_state_machine.pipeline.type == "STANDARD"
    error_message = "a Standard machine under the name that the CLI looks for"
  }
  assert {
    condition     = jsondecode(aws_sfn_state_machine.pipeline.definition).States.Infer.ItemProcessor.ProcessorConfig.Mode == "DISTRIBUTED"
    error_message = "the map is distributed"
  }
  assert {
    condition     = jsondecode(aws_sfn_state_machine.pipeline.definition).States.Plan.TimeoutSeconds > aws_lambda_function.this["partitioner"].timeout
    error_message = "the function's own time-out comes first and names the cause"
  }
  assert {
    condition     = aws_sfn_state_machine.pipeline.logging_configuration[0].include_execution_data == false
    error_message = "a log need not repeat where somebody's data lie"
  }
  assert {
    condition     = toset(jsondecode(aws_cloudwatch_event_rule.stopped.event_pattern).detail.status) == toset(["ABORTED", "TIMED_OUT"]) && jsondecode(aws_cloudwatch_event_rule.stopped.event_pattern).detail.stateMachineArn == ["arn:aws:states:eu-west-1:123456789012:stateMachine:skyfan-pipeline"]
    error_message = "runs of this machine that were stopped or timed out are told"
  }
  assert {
    condition     = aws_cloudwatch_event_target.stopped.rule == aws_cloudwatch_event_rule.stopped.name && aws_cloudwatch_event_target.stopped.arn == "arn:aws:lambda:eu-west-1:123456789012:function:skyfan-aggregator"
    error_message = "the aggregator leaves the mark that ranks look for"
  }
  assert {
    condition     = aws_lambda_permission.stopped.action == "lambda:InvokeFunction" && aws_lambda_permission.stopped.function_name == "skyfan-aggregator" && aws_lambda_permission.stopped.principal == "events.amazonaws.com" && aws_lambda_permission.stopped.source_arn == aws_cloudwatch_event_rule.stopped.arn
    error_message = "this rule, and no other, may call it"
  }
  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets) == 7
    error_message = "ranks running, failed, samples/s, cold starts, duration, cost, runs"
  }
  assert {
    condition     = toset(jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets[0].properties.metrics[*][3]) == toset(["skyfan-executor", "skyfan-executor-torch"])
    error_message = "ranks run in either function"
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.function) + length(aws_cloudwatch_metric_alarm.pipeline) == 11
    error_message = "alarms on failures and throttles"
  }
}

run "ranks_without_rendezvous_meet_in_the_runs_folder" {
  command = plan

  assert {
    condition     = alltrue([for f in values(aws_lambda_function.this) : length(setintersection(keys(f.environment[0].variables), ["SKYFAN_RENDEZVOUS", "SKYFAN_TOKEN_SECRET"])) == 0])
    error_message = "no address and no token of a service that is not there"
  }
}

run "rendezvous_leaves_callers_addresses" {
  command = plan # applying would run the provisioner that makes the token

  variables {
    enable_rendezvous = true
    environment       = "dev"
    architecture      = "arm64"
  }

  assert {
    condition     = alltrue([for group in values(aws_lb_target_group.rendezvous) : group.preserve_client_ip == "true"])
    error_message = "peers must appear with their own public address"
  }
  assert {
    condition     = aws_ecs_service.rendezvous["this"].desired_count == 1 && aws_ecs_service.rendezvous["this"].deployment_maximum_percent == 100
    error_message = "groups live in one task"
  }
  assert {
    condition     = aws_ecs_service.rendezvous["this"].wait_for_steady_state == true
    error_message = "apply ends when the task answers"
  }
  assert {
    condition     = aws_ecs_task_definition.rendezvous["this"].runtime_platform[0].cpu_architecture == "ARM64" && aws_lambda_function.this["executor"].architectures == tolist(["arm64"])
    error_message = "one architecture for functions and task"
  }
  assert {
    condition     = local.platform == "linux/arm64"
    error_message = "and for the images that are built"
  }
  assert {
    condition     = aws_lambda_function.this["executor"].function_name == "skyfan-dev-executor"
    error_message = "the environment is part of every name"
  }
}

run "results_expire_when_asked" {
  command = plan

  variables {
    results_expire_days = 90
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this["this"].rule[1].expiration[0].days == 90
    error_message = "results_expire_days sets the rule"
  }
}

run "image_uris_must_be_complete" {
  command = plan

  variables {
    image_uris = {
      partitioner    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/p:v1"
      executor-torch = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/t:v1"
      aggregator     = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:v1"
    }
  }

  expect_failures = [aws_lambda_function.this["executor"]]
}

run "images_must_be_in_ecr" {
  command = plan

  variables {
    image_uris = { executor = "docker.io/someone/executor:latest" }
  }

  expect_failures = [var.image_uris]
}

run "bad_values_are_refused" {
  command = plan

  variables {
    name_prefix                   = "Sky_fan"
    environment                   = "de-v"
    bucket_name                   = "UPPER"
    results_expire_days           = -1
    dataset_arns                  = ["arn:aws:s3:::bucket/*"]
    architecture                  = "riscv"
    executor_memory_mb            = 20000
    executor_timeout_s            = 901
    executor_ephemeral_mb         = 100
    executor_reserved_concurrency = 0
    partitioner_memory_mb         = 1
    partitioner_timeout_s         = 0
    aggregator_memory_mb          = 1
    aggregator_timeout_s          = 0
    map_concurrency               = 10001
    run_timeout_s                 = 1
    tolerated_failure_percentage  = 101
    log_retention_days            = 8
    log_level                     = "LOUD"
    alarm_topic_arns              = ["mail@example.org"]
    rendezvous_cpu                = 300
    rendezvous_memory_mb          = 100
    rendezvous_allowed_cidrs      = ["everyone"]
    rendezvous_vpc_cidr           = "10.0.0.0"
    batch_max_tasks               = 0
    batch_gpu_instance_types      = ["optimal"]
    batch_gpu_max_vcpus           = 2
    batch_task_timeout_s          = 30
    batch_vpc_cidr                = "10.0.0.0"
    sagemaker_instance_type       = "c5.4xlarge"
    sagemaker_max_instances       = 101
  }

  expect_failures = [
    var.name_prefix,
    var.environment,
    var.bucket_name,
    var.results_expire_days,
    var.dataset_arns,
    var.architecture,
    var.executor_memory_mb,
    var.executor_timeout_s,
    var.executor_ephemeral_mb,
    var.executor_reserved_concurrency,
    var.partitioner_memory_mb,
    var.partitioner_timeout_s,
    var.aggregator_memory_mb,
    var.aggregator_timeout_s,
    var.map_concurrency,
    var.run_timeout_s,
    var.tolerated_failure_percentage,
    var.log_retention_days,
    var.log_level,
    var.alarm_topic_arns,
    var.rendezvous_cpu,
    var.rendezvous_memory_mb,
    var.rendezvous_allowed_cidrs,
    var.rendezvous_vpc_cidr,
    var.batch_max_tasks,
    var.batch_gpu_instance_types,
    var.batch_gpu_max_vcpus,
    var.batch_task_timeout_s,
    var.batch_vpc_cidr,
    var.sagemaker_instance_type,
    var.sagemaker_max_instances,
  ]
}

# Limits of AWS that an emulator does not hold anybody to: 32 characters for load balancers and target groups, 63 for
# buckets, 64 for functions, roles and rules, 80 for state machines.
run "the_longest_names_are_allowed" {
  command = plan

  override_data {
    target = data.aws_region.current
    values = { id = "ap-southeast-2" }
  }

  variables {
    name_prefix        = "abcdefghijklmnopqrst"
    environment        = "0123456789"
    enable_rendezvous  = true
    monthly_budget_usd = 10
    alarm_email        = "sky@example.org"
  }

  assert {
    condition     = alltrue([for name in concat(values(aws_lb.rendezvous)[*].name, values(aws_lb_target_group.rendezvous)[*].name) : can(regex("^[a-z][a-z0-9-]{0,30}[a-z0-9]$", name))])
    error_message = "load balancers and target groups have at most 32 characters"
  }
  assert {
    condition     = alltrue([for role in concat(values(aws_iam_role.function), [aws_iam_role.pipeline], values(aws_iam_role.task_start)) : length(role.name) <= 64])
    error_message = "roles have at most 64 characters"
  }
  assert {
    condition     = alltrue([for f in values(aws_lambda_function.this) : length(f.function_name) <= 64]) && length(aws_cloudwatch_event_rule.stopped.name) <= 64
    error_message = "functions and rules have at most 64 characters"
  }
  assert {
    condition     = length(aws_s3_bucket.this["this"].bucket) <= 63 && length(aws_sfn_state_machine.pipeline.name) <= 80
    error_message = "buckets have at most 63 characters, state machines 80"
  }
}

run "long_names_that_differ_at_the_end_stay_apart" {
  command = plan

  variables {
    name_prefix       = "abcdefghijklmnopqrst"
    environment       = "1"
    enable_rendezvous = true
  }

  assert {
    condition     = aws_lb.rendezvous["this"].name == "abcdefghijklmnopqrst-1-rv"
    error_message = "24 characters fit as they are"
  }
}

run "two_regions_of_an_account_do_not_collide" {
  command = plan

  assert {
    condition     = alltrue([for name in concat(values(aws_iam_role.function)[*].name, [aws_iam_role.pipeline.name, aws_iam_policy.runner.name, aws_cloudwatch_dashboard.this[0].dashboard_name]) : strcontains(name, "eu-west-1")])
    error_message = "IAM and dashboards know no regions: their names have to"
  }
}

run "no_budget_and_no_mail_unless_asked_for" {
  command = plan

  assert {
    condition     = length(aws_budgets_budget.monthly) + length(aws_sns_topic.alarms) == 0
    error_message = "off by default"
  }
}

run "a_budget_tells_before_it_is_spent" {
  command = plan

  variables {
    monthly_budget_usd = 25
    alarm_email        = "sky@example.org"
  }

  assert {
    condition     = aws_budgets_budget.monthly["this"].limit_amount == "25" && alltrue([for n in aws_budgets_budget.monthly["this"].notification : contains(n.subscriber_email_addresses, "sky@example.org")])
    error_message = "the address hears of it"
  }
  assert {
    condition     = strcontains(aws_budgets_budget.monthly["this"].name, "eu-west-1")
    error_message = "budgets know no regions: their names have to"
  }
  assert {
    condition     = aws_sns_topic_subscription.alarms["this"].endpoint == "sky@example.org"
    error_message = "and of alarms"
  }
}

run "a_budget_needs_somebody_to_tell" {
  command = plan

  variables {
    monthly_budget_usd = 25
  }

  expect_failures = [aws_budgets_budget.monthly["this"]]
}

run "an_existing_bucket_is_left_as_it_is" {
  command = plan

  variables {
    existing_bucket_name = "cosmicai-data"
    data_prefixes        = ["100MB"]
    model_prefixes       = ["Anomaly Detection"]
    output_prefixes      = ["result-partition-100MB"]
  }

  override_data {
    target = data.aws_s3_bucket.existing["this"]
    values = { id = "cosmicai-data" }
  }

  assert {
    condition     = length(aws_s3_bucket.this) + length(aws_s3_bucket_policy.this) + length(aws_s3_bucket_lifecycle_configuration.this) + length(aws_s3_bucket_versioning.this) == 0
    error_message = "nothing of it is managed here"
  }
  assert {
    condition     = strcontains(output.run_command, "--dataset s3://cosmicai-data/100MB/demo.pt") && strcontains(output.run_command, "--output s3://cosmicai-data/result-partition-100MB/first")
    error_message = "what to type next is in its folders"
  }
}

run "prefixes_are_folders" {
  command = plan

  variables {
    data_prefixes   = ["data/"]
    model_prefixes  = ["*"]
    output_prefixes = []
  }

  expect_failures = [var.data_prefixes, var.model_prefixes, var.output_prefixes]
}

run "no_run_gets_more_ranks_at_once_than_the_deployment_allows" {
  command = plan

  variables {
    map_concurrency = 40
  }

  assert {
    condition     = aws_lambda_function.this["partitioner"].environment[0].variables.SKYFAN_MAP_CONCURRENCY == "40"
    error_message = "the partitioner caps what a run asks for"
  }
}

run "without_batch_and_sagemaker_the_state_machine_waits_for_neither" {
  command = apply

  assert {
    condition     = !strcontains(aws_sfn_state_machine.pipeline.definition, ".sync") && !strcontains(aws_sfn_state_machine.pipeline.definition, "WhichCompute")
    error_message = "a branch that is not deployed would need rights that the role lacks"
  }
  assert {
    condition     = aws_lambda_function.this["partitioner"].environment[0].variables.SKYFAN_COMPUTES == ""
    error_message = "the partitioner refuses what is not deployed"
  }
}

run "batch_scales_to_zero_and_lets_nothing_in" {
  command = apply

  variables {
    enable_batch             = true
    batch_gpu_instance_types = ["g5.xlarge", "g6.xlarge"]
    enable_sagemaker         = true
  }

  assert {
    condition     = aws_batch_compute_environment.gpu["this"].compute_resources[0].min_vcpus == 0 && aws_batch_compute_environment.gpu["this"].compute_resources[0].type == "SPOT"
    error_message = "no machine without a job"
  }
  assert {
    condition     = aws_batch_compute_environment.cpu["this"].compute_resources[0].max_vcpus == 256
    error_message = "64 tasks of 4 vCPUs"
  }
  assert {
    condition     = length(aws_vpc_endpoint.batch_s3) == 1 && aws_vpc_endpoint.batch_s3["this"].vpc_endpoint_type == "Gateway"
    error_message = "S3 is reached without NAT"
  }
  assert {
    condition     = alltrue([for one in values(aws_batch_job_definition.this) : one.retry_strategy[0].evaluate_on_exit[0].on_exit_code == "75" && one.retry_strategy[0].evaluate_on_exit[3].action == "EXIT"])
    error_message = "75 is tried again, what a rank will not survive is not"
  }
  assert {
    condition     = contains(jsondecode(aws_batch_job_definition.this["executor-gpu"].container_properties).resourceRequirements[*].type, "GPU") && jsondecode(aws_batch_job_definition.this["executor"].container_properties).networkConfiguration.assignPublicIp == "ENABLED"
    error_message = "a GPU where one is needed, an address where there is no NAT"
  }
  assert {
    condition     = aws_lambda_function.this["partitioner"].environment[0].variables.SKYFAN_COMPUTES == "batch=64,batch-gpu=4,sagemaker=4"
    error_message = "what is deployed, and how many tasks at once"
  }
  assert {
    condition     = jsondecode(aws_sfn_state_machine.pipeline.definition).States.Convert.Next == "WhichCompute" && length(jsondecode(aws_sfn_state_machine.pipeline.definition).States.WhichCompute.Choices) == 4
    error_message = "the branches are merged in"
  }
  assert {
    condition     = jsondecode(aws_sfn_state_machine.pipeline.definition).States.BatchArray.Resource == "arn:aws:states:::batch:submitJob.sync" && jsondecode(aws_sfn_state_machine.pipeline.definition).States.OnFargate.Result.queue == "arn:aws:batch:eu-west-1:123456789012:job-queue/skyfan-cpu"
    error_message = "jobs go to this deployment's queue"
  }
  assert {
    condition     = jsondecode(aws_sfn_state_machine.pipeline.definition).States.BatchArray.TimeoutSeconds < jsondecode(aws_sfn_state_machine.pipeline.definition).TimeoutSeconds
    error_message = "there is time left to merge"
  }
  assert {
    condition     = alltrue([for role in [aws_iam_role.batch_rank["this"], aws_iam_role.batch_start["this"], aws_iam_role.batch_instance["this"], aws_iam_role.sagemaker["this"]] : strcontains(role.name, "eu-west-1") && length(role.name) <= 64])
    error_message = "IAM knows no regions"
  }
}

run "the_image_with_cuda_is_needed_for_gpus_only" {
  command = plan

  variables {
    enable_batch     = true
    enable_sagemaker = true
    image_uris = {
      partitioner    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/p:v1"
      executor       = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/e:v1"
      executor-torch = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/t:v1"
      aggregator     = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:v1"
    }
  }

  assert {
    condition     = length(aws_batch_job_definition.this) == 2 && length(aws_batch_compute_environment.gpu) == 0
    error_message = "no GPU queue without instance types"
  }
}
