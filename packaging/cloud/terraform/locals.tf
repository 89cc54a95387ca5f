# What is made here or was there before, under one name.
locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region

  make_key    = var.existing_key_arn == null
  make_stream = var.existing_stream_arn == null
  make_bucket = var.existing_bucket == null

  key_arn    = local.make_key ? aws_kms_key.lake[0].arn : var.existing_key_arn
  stream_arn = local.make_stream ? aws_kinesis_stream.readings[0].arn : var.existing_stream_arn
  bucket     = local.make_bucket ? aws_s3_bucket.lake[0].bucket : var.existing_bucket
  bucket_arn = local.make_bucket ? aws_s3_bucket.lake[0].arn : "arn:${local.partition}:s3:::${var.existing_bucket}"

  # The key of whatever stream there is; null if it has none of the account's own.
  stream_key_arn = local.make_stream ? local.key_arn : var.existing_stream_key_arn

  by_certificate = var.gateway_identity == "roles-anywhere"
  by_user        = var.gateway_identity == "user"
  make_crawler   = var.crawler_name != null

  # The table and what leads to it, as a policy names them.
  table_arns = [
    "arn:${local.partition}:glue:${local.region}:${local.account}:catalog",
    "arn:${local.partition}:glue:${local.region}:${local.account}:database/${aws_glue_catalog_database.lake.name}",
    join("/", [
      "arn:${local.partition}:glue:${local.region}:${local.account}:table",
      aws_glue_catalog_database.lake.name,
      aws_glue_catalog_table.readings.name,
    ]),
  ]
}
