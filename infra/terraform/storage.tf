# One bucket: data and models are put there by the user, runs by the functions. An existing one is used as it is: neither
# its settings nor its objects are this module's.

locals {
  own_bucket = var.existing_bucket_name == null ? { this = true } : {}
  bucket     = one(concat(values(aws_s3_bucket.this)[*].id, values(data.aws_s3_bucket.existing)[*].id))
  bucket_arn = "arn:${local.partition}:s3:::${local.bucket}"
}

data "aws_s3_bucket" "existing" {
  for_each = var.existing_bucket_name == null ? {} : { this = var.existing_bucket_name }

  bucket = each.value
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18: access logs need a second bucket and cost more than they tell about a bucket that only its owner's roles reach; CloudTrail data events do the same where an account wants them
  #checkov:skip=CKV_AWS_144: results can be computed again from the data, so that a copy in a second region is not worth its price
  #checkov:skip=CKV_AWS_145: S3's own keys encrypt at rest; a customer key costs a request per object read, and the data are public sky surveys
  #checkov:skip=CKV2_AWS_62: nothing acts on new objects; the state machine says when a run is over
  for_each = local.own_bucket

  bucket        = coalesce(var.bucket_name, "${local.name}-${local.account_id}-${local.region}")
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = aws_s3_bucket.this

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    id     = "tidy"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }

    # Versions are a net for mistakes, not an archive.
    noncurrent_version_expiration {
      noncurrent_days = 14
    }
  }

  dynamic "rule" {
    for_each = var.results_expire_days > 0 ? var.output_prefixes : []

    content {
      id     = "expire-${rule.value}"
      status = "Enabled"

      filter {
        prefix = "${rule.value}/"
      }

      expiration {
        days = var.results_expire_days
      }

      abort_incomplete_multipart_upload {
        days_after_initiation = 2
      }
    }
  }
}

data "aws_iam_policy_document" "bucket" {
  for_each = aws_s3_bucket.this

  statement {
    sid    = "DenyPlainHttp"
    effect = "Deny"
    # A Deny may be as broad as it likes: nobody, by whatever action, without TLS.
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  policy = data.aws_iam_policy_document.bucket[each.key].json

  # S3 refuses two changes of a bucket's access settings at the same moment.
  depends_on = [aws_s3_bucket_public_access_block.this]
}
