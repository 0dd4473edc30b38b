# Optional: the rendezvous service, one Fargate task in a network of its own behind a network load balancer that leaves
# the callers' addresses as they are. Ranks are told each other's public address, so that the service must see it.

locals {
  rendezvous = var.enable_rendezvous ? { this = true } : {}

  # gRPC, and the plain listener that tells a peer the public address and port it is seen at.
  rendezvous_ports = { grpc = 50054, address = 50055 }

  rendezvous_listeners = { for name, port in local.rendezvous_ports : name => port if var.enable_rendezvous }

  # For runs with --collectives: the plan names the address to the ranks; these read the token from its secret.
  rendezvous_environment = var.enable_rendezvous ? merge(
    { partitioner = { SKYFAN_RENDEZVOUS = "${aws_lb.rendezvous["this"].dns_name}:${local.rendezvous_ports.grpc}" } },
    {
      for service in ["executor", "executor-torch"] : service => {
        SKYFAN_TOKEN_SECRET = aws_secretsmanager_secret.rendezvous_token["this"].arn
        # Changes with the token, so that functions that are warm start anew and read it again.
        SKYFAN_TOKEN_VERSION = terraform_data.rendezvous_token["this"].id
      }
    },
  ) : {}

  # Load balancers and their target groups have names of at most 32 characters; a longer name is cut and told apart by a
  # hash of the whole.
  short_name = length(local.name) <= 24 ? local.name : "${trimsuffix(substr(local.name, 0, 17), "-")}-${substr(sha256(local.name), 0, 6)}"

  rendezvous_arn = "arn:${local.partition}:ecs:${local.region}:${local.account_id}"
}

resource "aws_vpc" "rendezvous" {
  #checkov:skip=CKV2_AWS_11: flow logs of one task that logs its own callers would cost more than the task
  for_each = local.rendezvous

  cidr_block           = var.rendezvous_vpc_cidr
  enable_dns_hostnames = true
  tags                 = { Name = "${local.name}-rendezvous" }
}

# The network's default group lets nothing in or out; the task has its own.
resource "aws_default_security_group" "rendezvous" {
  for_each = aws_vpc.rendezvous

  vpc_id = each.value.id
}

# One zone is enough for a service that is a single task; its state is gone with the task in any case.
resource "aws_subnet" "rendezvous" {
  for_each = aws_vpc.rendezvous

  vpc_id     = each.value.id
  cidr_block = cidrsubnet(var.rendezvous_vpc_cidr, 1, 0)
  tags       = { Name = "${local.name}-rendezvous" }
}

resource "aws_internet_gateway" "rendezvous" {
  for_each = aws_vpc.rendezvous

  vpc_id = each.value.id
  tags   = { Name = "${local.name}-rendezvous" }
}

resource "aws_route_table" "rendezvous" {
  for_each = aws_vpc.rendezvous

  vpc_id = each.value.id
  tags   = { Name = "${local.name}-rendezvous" }
}

resource "aws_route" "rendezvous" {
  for_each = aws_route_table.rendezvous

  route_table_id         = each.value.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.rendezvous[each.key].id
}

resource "aws_route_table_association" "rendezvous" {
  for_each = aws_route_table.rendezvous

  route_table_id = each.value.id
  subnet_id      = aws_subnet.rendezvous[each.key].id
}

resource "aws_security_group" "rendezvous" {
  #checkov:skip=CKV2_AWS_5: aws_ecs_service.rendezvous uses it; checkov loses the thread at for_each
  for_each = aws_vpc.rendezvous

  name        = "${local.name}-rendezvous"
  description = "Ranks in, AWS endpoints out"
  vpc_id      = each.value.id

}

resource "aws_vpc_security_group_ingress_rule" "ranks" {
  for_each = {
    for pair in setproduct(keys(local.rendezvous_listeners), var.rendezvous_allowed_cidrs) :
    "${pair[0]} from ${pair[1]}" => { name = pair[0], cidr = pair[1] }
  }

  security_group_id = aws_security_group.rendezvous["this"].id
  description       = "Ranks, ${each.value.name}; the load balancer leaves their addresses as they are"
  ip_protocol       = "tcp"
  from_port         = local.rendezvous_ports[each.value.name]
  to_port           = local.rendezvous_ports[each.value.name]
  cidr_ipv4         = each.value.cidr
}

resource "aws_vpc_security_group_ingress_rule" "health" {
  for_each = aws_security_group.rendezvous

  security_group_id = each.value.id
  description       = "The load balancer's health checks, from inside the network"
  ip_protocol       = "tcp"
  from_port         = local.rendezvous_ports.grpc
  to_port           = local.rendezvous_ports.grpc
  cidr_ipv4         = var.rendezvous_vpc_cidr
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  for_each = aws_security_group.rendezvous

  security_group_id = each.value.id
  description       = "Image registry, secrets and logs, whose addresses are not fixed"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_lb" "rendezvous" {
  #checkov:skip=CKV_AWS_91: access logs of a network load balancer exist for TLS listeners only
  #checkov:skip=CKV_AWS_150: destroy must be able to take it away again
  #checkov:skip=CKV_AWS_152: there is one zone, so that nothing crosses one
  #checkov:skip=CKV2_AWS_28: a web application firewall does not work on TCP
  for_each = aws_subnet.rendezvous

  name               = "${local.short_name}-rv"
  load_balancer_type = "network"
  internal           = false
  subnets            = [each.value.id]
}

resource "aws_lb_target_group" "rendezvous" {
  for_each = local.rendezvous_listeners

  name               = "${local.short_name}-${each.key}"
  port               = each.value
  protocol           = "TCP"
  target_type        = "ip"
  vpc_id             = aws_vpc.rendezvous["this"].id
  preserve_client_ip = true # off by default for targets by address, and then every peer would seem to be the balancer

  health_check {
    protocol = "TCP"
    port     = local.rendezvous_ports.grpc
  }
}

resource "aws_lb_listener" "rendezvous" {
  #checkov:skip=CKV_AWS_2: gRPC and a raw TCP listener, not HTTP
  #checkov:skip=CKV_AWS_103: TLS ends in the task if it is configured; the balancer must not open the stream
  for_each = local.rendezvous_listeners

  load_balancer_arn = aws_lb.rendezvous["this"].arn
  port              = each.value
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.rendezvous[each.key].arn
  }
}

# The token's value is made by the provisioner below and never enters Terraform's state.
resource "aws_secretsmanager_secret" "rendezvous_token" {
  #checkov:skip=CKV_AWS_149: the account's own key for Secrets Manager is enough for a token that only lets ranks meet
  #checkov:skip=CKV2_AWS_57: a new token is `terraform apply -replace` of the provisioner; running groups would break by rotation
  for_each = local.rendezvous

  name                    = "${local.name}/rendezvous-token"
  description             = "Token with which ranks join groups"
  recovery_window_in_days = 0 # else the name is taken for weeks after a destroy
}

resource "terraform_data" "rendezvous_token" {
  for_each = aws_secretsmanager_secret.rendezvous_token

  triggers_replace = [each.value.arn]

  provisioner "local-exec" {
    command     = "${abspath(path.module)}/scripts/make_token.sh"
    interpreter = ["bash"]
    environment = { SECRET_ARN = each.value.arn, AWS_REGION = local.region }
  }
}

resource "aws_cloudwatch_log_group" "rendezvous" {
  #checkov:skip=CKV_AWS_158: the log names groups and addresses, no data; CloudWatch's own encryption at rest is enough
  #checkov:skip=CKV_AWS_338: a year of logs is the caller's choice and price: var.log_retention_days
  for_each = local.rendezvous

  name              = "/aws/ecs/${local.name}-rendezvous"
  retention_in_days = var.log_retention_days
}

data "aws_iam_policy_document" "task_start" {
  for_each = local.rendezvous

  source_policy_documents = [data.aws_iam_policy_document.pull["rendezvous"].json]

  statement {
    sid       = "ReadToken"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.rendezvous_token["this"].arn]
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.rendezvous["this"].arn}:*"]
  }
}

# Starts the task (image, secret, log). The service itself calls no AWS API and has no role.
resource "aws_iam_role" "task_start" {
  for_each = local.rendezvous

  name               = "${local.global_name}-rendezvous"
  description        = "Starts Skyfan's rendezvous task"
  assume_role_policy = data.aws_iam_policy_document.trust["rendezvous"].json
}

resource "aws_iam_role_policy" "task_start" {
  for_each = local.rendezvous

  name   = "least-privilege"
  role   = aws_iam_role.task_start["this"].id
  policy = data.aws_iam_policy_document.task_start["this"].json
}

# ECS acts through a role of its own, which an account that never used ECS lacks: a service made at once then fails. It
# is the account's, not this deployment's: made where it is missing, and never destroyed.
resource "terraform_data" "ecs_service_role" {
  for_each = local.rendezvous

  provisioner "local-exec" {
    command     = "${abspath(path.module)}/scripts/ensure_ecs_service_role.sh"
    interpreter = ["bash"]
  }
}

resource "aws_ecs_cluster" "rendezvous" {
  #checkov:skip=CKV_AWS_65: container insights cost more than the one task that they would watch
  for_each = local.rendezvous

  name = "${local.name}-rendezvous"

  depends_on = [terraform_data.ecs_service_role]
}

resource "aws_ecs_task_definition" "rendezvous" {
  for_each = local.rendezvous

  family                   = "${local.name}-rendezvous"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.rendezvous_cpu
  memory                   = var.rendezvous_memory_mb
  execution_role_arn       = aws_iam_role.task_start["this"].arn

  runtime_platform {
    cpu_architecture        = upper(var.architecture)
    operating_system_family = "LINUX"
  }

  container_definitions = jsonencode([{
    name                   = "rendezvous"
    image                  = local.image_uris["rendezvous"]
    essential              = true
    readonlyRootFilesystem = true
    portMappings           = [for port in values(local.rendezvous_ports) : { containerPort = port, hostPort = port, protocol = "tcp" }]
    environment            = [{ name = "SKYFAN_LOG_LEVEL", value = lower(var.log_level) }]
    secrets                = [{ name = "SKYFAN_TOKEN", valueFrom = aws_secretsmanager_secret.rendezvous_token["this"].arn }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.rendezvous["this"].name
        awslogs-region        = local.region
        awslogs-stream-prefix = "rendezvous"
      }
    }
  }])

  lifecycle {
    precondition {
      condition     = local.image_uris["rendezvous"] != ""
      error_message = "With build_images = false and enable_rendezvous, image_uris must name an image for rendezvous."
    }
  }
}

resource "aws_ecs_service" "rendezvous" {
  #checkov:skip=CKV_AWS_333: peers have to reach it, and the public address spares a NAT gateway at $32 a month
  for_each = local.rendezvous

  name            = "rendezvous"
  cluster         = aws_ecs_cluster.rendezvous["this"].id
  task_definition = aws_ecs_task_definition.rendezvous["this"].arn
  launch_type     = "FARGATE"
  desired_count   = 1
  # Groups live in the memory of one task: never two side by side.
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
  # Apply ends when the task answers, or says that it does not.
  wait_for_steady_state = true

  network_configuration {
    subnets          = [aws_subnet.rendezvous["this"].id]
    security_groups  = [aws_security_group.rendezvous["this"].id]
    assign_public_ip = true
  }

  dynamic "load_balancer" {
    for_each = aws_lb_target_group.rendezvous

    content {
      target_group_arn = load_balancer.value.arn
      container_name   = "rendezvous"
      container_port   = load_balancer.value.port
    }
  }

  depends_on = [
    aws_iam_role_policy.task_start,
    aws_lb_listener.rendezvous,
    aws_route.rendezvous,
    aws_route_table_association.rendezvous,
    terraform_data.image,
    terraform_data.rendezvous_token,
  ]
}
