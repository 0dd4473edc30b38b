# Images are built on the machine that applies, once for each content: the tag is a hash of what goes into the image, so
# that an unchanged tree builds nothing and a tag, once pushed, always means the same bytes.

locals {
  source_dir = coalesce(var.source_dir, "${path.module}/../..")
  # The image with CUDA is gigabytes large: built only where something runs it.
  needs_gpu_image = length(local.batch_gpu) > 0 || (var.enable_sagemaker && local.sagemaker_image == "executor-gpu")
  services = toset(concat(
    keys(local.functions),
    var.enable_rendezvous ? ["rendezvous"] : [],
    local.needs_gpu_image ? ["executor-gpu"] : [],
  ))

  # What services/Dockerfile.dockerignore lets into a build, less what Python and the package tools leave lying about.
  context_files = sort([
    for file in flatten([
      for pattern in ["requirements/*.txt", "skyfan/**", "services/**"] :
      tolist(fileset(local.source_dir, pattern))
    ]) : file if !can(regex("(^|/)(__pycache__|[^/]+\\.egg-info)/", file))
  ])
  context_hash = sha256(join("\n", [for file in local.context_files : "${file} ${filesha256("${local.source_dir}/${file}")}"]))
  image_tag    = substr(sha256(join("\n", concat([local.context_hash, local.platform], var.docker_build_options))), 0, 20)
  registry     = split("/", try(values(aws_ecr_repository.this)[0].repository_url, ""))[0]
  platform     = var.architecture == "arm64" ? "linux/arm64" : "linux/amd64"

  image_uris = {
    for service in local.services : service =>
    var.build_images ? "${aws_ecr_repository.this[service].repository_url}:${local.image_tag}" : lookup(var.image_uris, service, "")
  }

  # For those who pull: an image that is given is <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>.
  repository_arns = {
    for service in local.services : service =>
    var.build_images ? aws_ecr_repository.this[service].arn : try(
      "arn:${local.partition}:ecr:${split(".", local.image_uris[service])[3]}:${split(".", local.image_uris[service])[0]}:repository/${regex("/([^:@]+)", local.image_uris[service])[0]}",
      "arn:${local.partition}:ecr:${local.region}:${local.account_id}:repository/${local.name}-${service}",
    )
  }
}

# What containers elsewhere than on Lambda may do to get their images.
data "aws_iam_policy_document" "pull" {
  #checkov:skip=CKV_AWS_356: only ecr:GetAuthorizationToken has "*", as AWS defines it
  for_each = {
    for who, images in {
      rendezvous = var.enable_rendezvous ? ["rendezvous"] : []
      batch      = local.batch_jobs
      sagemaker  = var.enable_sagemaker ? [local.sagemaker_image] : []
    } : who => images if length(images) > 0
  }

  statement {
    sid       = "RegistryLogin"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"] # the action knows no narrower resource
  }

  statement {
    sid       = "PullImages"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [for image in each.value : local.repository_arns[image]]
  }
}

resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_136: images are built from public source code; ECR's own encryption at rest is enough
  for_each = var.build_images ? local.services : []

  name                 = "${local.name}-${each.key}"
  image_tag_mutability = "IMMUTABLE"
  # Images can be built again from the sources at any time: destroy takes them along.
  force_delete = true

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each = aws_ecr_repository.this

  repository = each.value.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Keep the last ten images"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 10 }
      action       = { type = "expire" }
    }]
  })
}

data "aws_iam_policy_document" "repository" {
  for_each = var.build_images ? local.functions : {}

  statement {
    sid     = "LambdaPulls"
    actions = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:lambda:${local.region}:${local.account_id}:function:${local.name}-${each.key}"]
    }
  }
}

resource "aws_ecr_repository_policy" "this" {
  for_each = data.aws_iam_policy_document.repository

  repository = aws_ecr_repository.this[each.key].name
  policy     = each.value.json
}

# One login for all builds: several at once get in each other's way in a keychain, such as Docker's on macOS.
resource "terraform_data" "registry_login" {
  for_each = var.build_images ? { this = true } : {}

  triggers_replace = [local.image_tag, local.registry]

  provisioner "local-exec" {
    command     = "${abspath(path.module)}/scripts/log_in.sh"
    interpreter = ["bash"]
    environment = { REGISTRY = local.registry, AWS_REGION = local.region }
  }
}

resource "terraform_data" "image" {
  for_each = var.build_images ? local.services : []

  triggers_replace = [local.image_tag, aws_ecr_repository.this[each.key].repository_url]

  provisioner "local-exec" {
    command     = "${abspath(path.module)}/scripts/build_and_push.sh"
    interpreter = ["bash"]

    environment = {
      TARGET        = each.key
      REPOSITORY    = aws_ecr_repository.this[each.key].repository_url
      TAG           = local.image_tag
      PLATFORM      = local.platform
      SOURCE_DIR    = abspath(local.source_dir)
      BUILD_OPTIONS = join("\n", var.docker_build_options)
      AWS_REGION    = local.region
    }
  }

  depends_on = [terraform_data.registry_login]
}
