# The lake's bucket. An existing one's encryption, policy, lifecycle and EventBridge switch stay its owner's.
resource "aws_s3_bucket" "lake" {
  # checkov:skip=CKV_AWS_18: Access logs are the access_log_bucket variable; they need a bucket that is not this one
  # checkov:skip=CKV_AWS_144: Readings stay in the region that they were measured for
  count = local.make_bucket ? 1 : 0

  bucket_prefix = "${var.name}-"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "lake" {
  count = local.make_bucket ? 1 : 0

  bucket                  = aws_s3_bucket.lake[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "lake" {
  count = local.make_bucket ? 1 : 0

  bucket = aws_s3_bucket.lake[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "lake" {
  count = local.make_bucket ? 1 : 0

  bucket = aws_s3_bucket.lake[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "lake" {
  count = local.make_bucket ? 1 : 0

  bucket = aws_s3_bucket.lake[0].id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = local.key_arn
    }
  }
}

resource "aws_s3_bucket_logging" "lake" {
  count = local.make_bucket && var.access_log_bucket != null ? 1 : 0

  bucket        = aws_s3_bucket.lake[0].id
  target_bucket = var.access_log_bucket
  target_prefix = "hr-lake/"
}

resource "aws_s3_bucket_notification" "lake" {
  count = local.make_bucket ? 1 : 0

  bucket      = aws_s3_bucket.lake[0].id
  eventbridge = true
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  count = local.make_bucket ? 1 : 0

  bucket = aws_s3_bucket.lake[0].id

  rule {
    id     = "readings"
    status = "Enabled"

    filter {
      prefix = "${var.prefix}heart_rate_data/"
    }

    transition {
      days          = var.cold_after_days
      storage_class = "INTELLIGENT_TIERING"
    }
  }

  rule {
    id     = "raw"
    status = "Enabled"

    filter {
      prefix = "${var.prefix}raw/"
    }

    transition {
      days          = 30
      storage_class = "GLACIER_IR"
    }
  }

  rule {
    id     = "replayed"
    status = "Enabled"

    filter {
      prefix = "${var.prefix}replayed/"
    }

    expiration {
      days = 30
    }
  }

  rule {
    id     = "results"
    status = "Enabled"

    filter {
      prefix = "${var.prefix}athena-results/"
    }

    expiration {
      days = 7
    }
  }

  rule {
    id     = "housekeeping"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  depends_on = [aws_s3_bucket_versioning.lake] # A rule for old versions wants them switched on.
}

resource "aws_s3_bucket_policy" "lake" {
  count = local.make_bucket ? 1 : 0

  bucket = aws_s3_bucket.lake[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}
