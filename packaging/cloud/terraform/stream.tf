resource "aws_kinesis_stream" "readings" {
  count = local.make_stream ? 1 : 0

  name             = var.stream_name
  retention_period = var.retention_hours
  shard_count      = var.stream_mode == "ON_DEMAND" ? null : var.shard_count
  encryption_type  = "KMS"
  kms_key_id       = local.key_arn

  stream_mode_details {
    stream_mode = var.stream_mode
  }

  lifecycle {
    prevent_destroy = true
  }
}
