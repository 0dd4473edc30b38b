# Everything by default: one bucket, four functions, the state machine; no hourly price.
module "skyfan" {
  source = "../.."
  region = "us-east-1"
}

output "demo_data_command" {
  value = module.skyfan.demo_data_command
}

output "run_command" {
  value = module.skyfan.run_command
}
