# Everything by default: one bucket, three functions, the state machine; nothing that costs while it is idle.
module "skyfan" {
  source = "../.."
  region = "us-east-1"
}

output "run_command" {
  value = module.skyfan.run_command
}
