# A crawler over the table, for those who want one: partition projection needs none.
resource "aws_iam_role" "crawler" {
  count = local.make_crawler ? 1 : 0

  name_prefix = "${var.name}-crawler-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "glue.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "crawler" {
  count = local.make_crawler ? 1 : 0

  name = "crawl"
  role = aws_iam_role.crawler[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:ListBucket"]
        Resource = [local.bucket_arn, "${local.bucket_arn}/${var.prefix}heart_rate_data/*"]
      },
      {
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = local.key_arn
      },
      {
        Effect = "Allow"
        Action = [
          "glue:BatchCreatePartition", "glue:BatchGetPartition", "glue:GetDatabase", "glue:GetPartition",
          "glue:GetPartitions", "glue:GetTable", "glue:UpdatePartition", "glue:UpdateTable",
        ]
        Resource = local.table_arns
      },
      {
        Effect   = "Allow"
        Action   = ["logs:AssociateKmsKey", "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${local.logs_arn}:log-group:/aws-glue/crawlers*"
      },
    ]
  })
}

resource "aws_glue_security_configuration" "crawler" {
  count = local.make_crawler ? 1 : 0

  name = "${var.crawler_name}-security"

  encryption_configuration {
    s3_encryption {
      s3_encryption_mode = "SSE-KMS"
      kms_key_arn        = local.key_arn
    }

    cloudwatch_encryption {
      cloudwatch_encryption_mode = "SSE-KMS"
      kms_key_arn                = local.key_arn
    }

    job_bookmarks_encryption {
      job_bookmarks_encryption_mode = "CSE-KMS"
      kms_key_arn                   = local.key_arn
    }
  }
}

resource "aws_glue_crawler" "lake" {
  count = local.make_crawler ? 1 : 0

  name                   = var.crawler_name
  database_name          = aws_glue_catalog_database.lake.name
  role                   = aws_iam_role.crawler[0].arn
  security_configuration = aws_glue_security_configuration.crawler[0].name

  catalog_target {
    database_name = aws_glue_catalog_database.lake.name
    tables        = [aws_glue_catalog_table.readings.name]
  }

  schema_change_policy {
    update_behavior = "LOG"
    delete_behavior = "LOG"
  }

  depends_on = [aws_iam_role_policy.crawler]
}
