# From the stream to the lake.
locals {
  # What names a line's day, on one line; the file is the CloudFormation template's too, and so are its placeholders.
  partition_query = join(" ", split("\n", trimspace(
    templatefile("${path.module}/../templates/lake/partition.jq", { FirstDay = var.first_day })
  )))
}

resource "aws_cloudwatch_log_group" "delivery" {
  name              = "/aws/kinesisfirehose/${var.delivery_name}"
  retention_in_days = 365
  kms_key_id        = local.key_arn
}

resource "aws_cloudwatch_log_stream" "parquet" {
  name           = "parquet"
  log_group_name = aws_cloudwatch_log_group.delivery.name
}

resource "aws_cloudwatch_log_stream" "raw" {
  count = var.raw_delivery ? 1 : 0

  name           = "raw"
  log_group_name = aws_cloudwatch_log_group.delivery.name
}

resource "aws_iam_role" "delivery" {
  name_prefix = "${var.name}-delivery-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "firehose.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = local.account } } # What Firehose names itself with.
    }]
  })
}

resource "aws_iam_role_policy" "delivery" {
  name = "delivery"
  role = aws_iam_role.delivery.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["kinesis:DescribeStream", "kinesis:GetShardIterator", "kinesis:GetRecords", "kinesis:ListShards"]
        Resource = local.stream_arn
      },
      {
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = compact([local.key_arn, var.existing_stream_key_arn])
      },
      {
        Effect   = "Allow"
        Action   = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
        Resource = local.bucket_arn
      },
      {
        Effect   = "Allow"
        Action   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
        Resource = "${local.bucket_arn}/*"
      },
      {
        Effect   = "Allow"
        Action   = ["glue:GetTable", "glue:GetTableVersion", "glue:GetTableVersions"]
        Resource = local.table_arns
      },
      {
        Effect   = "Allow"
        Action   = ["logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.delivery.arn}:*" # The provider cuts the end off that IAM asks for.
      },
    ]
  })
}

resource "aws_kinesis_firehose_delivery_stream" "parquet" {
  name        = var.delivery_name
  destination = "extended_s3"

  kinesis_source_configuration {
    kinesis_stream_arn = local.stream_arn
    role_arn           = aws_iam_role.delivery.arn
  }

  extended_s3_configuration {
    bucket_arn          = local.bucket_arn
    role_arn            = aws_iam_role.delivery.arn
    prefix              = "${var.prefix}heart_rate_data/date=!{partitionKeyFromQuery:date}/"
    error_output_prefix = "${var.prefix}errors/parquet/!{firehose:error-output-type}/!{timestamp:yyyy-MM-dd}/"
    custom_time_zone    = var.delivery_time_zone
    buffering_size      = 64
    buffering_interval  = var.buffer_seconds
    kms_key_arn         = local.key_arn

    cloudwatch_logging_options {
      enabled         = true
      log_group_name  = aws_cloudwatch_log_group.delivery.name
      log_stream_name = aws_cloudwatch_log_stream.parquet.name
    }

    dynamic_partitioning_configuration {
      enabled        = true
      retry_duration = 300
    }

    processing_configuration {
      enabled = true

      processors {
        type = "RecordDeAggregation"

        parameters {
          parameter_name  = "SubRecordType"
          parameter_value = "JSON"
        }
      }

      processors {
        type = "MetadataExtraction"

        parameters {
          parameter_name  = "JsonParsingEngine"
          parameter_value = "JQ-1.6"
        }

        parameters {
          parameter_name  = "MetadataExtractionQuery"
          parameter_value = local.partition_query
        }
      }
    }

    data_format_conversion_configuration {
      enabled = true

      input_format_configuration {
        deserializer {
          open_x_json_ser_de {
            case_insensitive = true
          }
        }
      }

      output_format_configuration {
        serializer {
          parquet_ser_de {
            compression                   = var.parquet_compression
            enable_dictionary_compression = true
          }
        }
      }

      schema_configuration {
        catalog_id    = local.account
        database_name = aws_glue_catalog_database.lake.name
        table_name    = aws_glue_catalog_table.readings.name
        region        = local.region
        role_arn      = aws_iam_role.delivery.arn
        version_id    = "LATEST"
      }
    }
  }

  depends_on = [aws_iam_role_policy.delivery] # Firehose tries its role when it is made.
}

resource "aws_kinesis_firehose_delivery_stream" "raw" {
  count = var.raw_delivery ? 1 : 0

  name        = "${var.delivery_name}_raw"
  destination = "extended_s3"

  kinesis_source_configuration {
    kinesis_stream_arn = local.stream_arn
    role_arn           = aws_iam_role.delivery.arn
  }

  # A line already ends in \n: no delimiter is added, the bytes stay the gateway's.
  extended_s3_configuration {
    bucket_arn          = local.bucket_arn
    role_arn            = aws_iam_role.delivery.arn
    prefix              = "${var.prefix}raw/arrived=!{timestamp:yyyy-MM-dd}/"
    error_output_prefix = "${var.prefix}errors/raw/!{firehose:error-output-type}/!{timestamp:yyyy-MM-dd}/"
    custom_time_zone    = var.delivery_time_zone
    file_extension      = ".ndjson.gz"
    compression_format  = "GZIP"
    buffering_size      = 64
    buffering_interval  = var.buffer_seconds
    kms_key_arn         = local.key_arn

    cloudwatch_logging_options {
      enabled         = true
      log_group_name  = aws_cloudwatch_log_group.delivery.name
      log_stream_name = aws_cloudwatch_log_stream.raw[0].name
    }
  }

  depends_on = [aws_iam_role_policy.delivery]
}
