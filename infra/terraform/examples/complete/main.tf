# A deployment for a group: state shared in S3, images from CI, larger functions, results that expire, alarms by mail
# and the rendezvous service for ranks that talk to each other.

terraform {
  required_version = ">= 1.10" # use_lockfile

  backend "s3" {
    bucket       = "my-terraform-state"
    key          = "skyfan/prod.tfstate"
    region       = "eu-west-1"
    encrypt      = true
    use_lockfile = true
  }
}

variable "image_uris" {
  description = "Images that CI pushed, by service."
  type        = map(string)
}

variable "alarm_topic_arn" {
  description = "SNS topic that hears of alarms."
  type        = string
}

module "skyfan" {
  source = "../.."

  region      = "eu-west-1"
  environment = "prod"
  tags        = { project = "survey", cost_center = "astronomy" }

  bucket_name         = "my-survey-skyfan"
  results_expire_days = 180
  dataset_arns        = ["arn:aws:s3:::my-survey-archive/cutouts"]

  build_images = false
  image_uris   = var.image_uris

  architecture                 = "arm64"
  executor_memory_mb           = 8846
  executor_timeout_s           = 600
  map_concurrency              = 1000
  tolerated_failure_percentage = 1
  run_timeout_s                = 7200

  log_retention_days = 90
  alarm_topic_arns   = [var.alarm_topic_arn]

  enable_rendezvous = true
}

output "run_command" {
  description = "What to type next."
  value       = module.skyfan.run_command
}

output "runner_policy_arn" {
  description = "Attach to those who start runs."
  value       = module.skyfan.runner_policy_arn
}

output "rendezvous" {
  description = "Where ranks meet, and the secret with the token."
  value       = module.skyfan.rendezvous
}
