output "run_command" {
  description = "What to type next."
  value = join(" ", compact([
    "AWS_REGION=${local.region} skyfan run --on aws",
    local.name == "skyfan" ? "" : "--state-machine ${local.pipeline_name}", # skyfan-pipeline is the command's own default
    "--dataset s3://${local.bucket}/${var.data_prefixes[0]}/demo.pt",
    "--partition-size 2MB",
    "--workers ${var.map_concurrency}",
    var.tolerated_failure_percentage > 0 ? "--tolerate-failures ${var.tolerated_failure_percentage}" : "",
    "--output s3://${local.bucket}/${var.output_prefixes[0]}/first",
  ]))
}

output "demo_data_command" {
  description = "Puts the demo dataset where run_command looks for it; your own data go there by `aws s3 cp`."
  value       = "AWS_REGION=${local.region} skyfan data simulate s3://${local.bucket}/${var.data_prefixes[0]}/demo.pt --galaxies 1000 --subset test"
}

output "bucket" {
  description = "Bucket with data, models and runs."
  value       = local.bucket
}

output "state_machine_arn" {
  description = "The pipeline."
  value       = aws_sfn_state_machine.pipeline.arn
}

output "function_arns" {
  description = "ARN of each service's function."
  value       = { for service, function in aws_lambda_function.this : service => function.arn }
}

output "image_uris" {
  description = "The image that each service runs."
  value       = local.image_uris
}

output "runner_policy_arn" {
  description = "Policy for people who start and follow runs."
  value       = aws_iam_policy.runner.arn
}

output "dashboard_url" {
  description = "The dashboard, or null where it is not created."
  value       = one([for dashboard in aws_cloudwatch_dashboard.this : "https://${local.region}.console.aws.amazon.com/cloudwatch/home?region=${local.region}#dashboards:name=${dashboard.dashboard_name}"])
}

output "rendezvous" {
  description = "Address of the rendezvous service and the secret that holds its token; runs with --collectives find both by themselves. Null where it is off."
  value = one([for balancer in aws_lb.rendezvous : {
    address          = "${balancer.dns_name}:${local.rendezvous_ports.grpc}"
    address_port     = local.rendezvous_ports.address
    token_secret_arn = aws_secretsmanager_secret.rendezvous_token["this"].arn
  }])
}
