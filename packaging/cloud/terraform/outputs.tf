# What the other stacks take from the lake.
output "stream_arn" {
  description = "The stream that gateways put readings on"
  value       = local.stream_arn
}

output "stream_key_arn" {
  description = "The stream's KMS key; null if it has none of the account's own"
  value       = local.stream_key_arn
}

output "bucket" {
  description = "The lake's bucket"
  value       = local.bucket
}

output "prefix" {
  description = "Under which all objects of the lake lie"
  value       = var.prefix
}

output "key_arn" {
  description = "The KMS key of lake, query results, logs and alarms"
  value       = local.key_arn
}

output "work_group" {
  description = "The Athena workgroup that people query in"
  value       = aws_athena_workgroup.people.name
}

output "database" {
  description = "The Glue database"
  value       = aws_glue_catalog_database.lake.name
}

output "table" {
  description = "The table of every line that arrived"
  value       = aws_glue_catalog_table.readings.name
}

output "topic" {
  description = "The SNS topic that alarms are told to"
  value       = aws_sns_topic.alarms.arn
}

output "delivery_name" {
  description = "The Firehose delivery"
  value       = aws_kinesis_firehose_delivery_stream.parquet.name
}

output "first_day" {
  description = "The first day a query looks at"
  value       = var.first_day
}

output "gateway_role_arn" {
  description = "The role that a gateway's certificate takes on; null for other identities"
  value       = one(aws_iam_role.gateway[*].arn)
}

output "trust_anchor_arn" {
  description = "The trust anchor of the gateways' certificates; null for other identities"
  value       = one(aws_rolesanywhere_trust_anchor.gateways[*].arn)
}

output "profile_arn" {
  description = "The Roles Anywhere profile of the gateways; null for other identities"
  value       = one(aws_rolesanywhere_profile.gateways[*].arn)
}

output "gateway_group_name" {
  description = "The group of a first try's gateways, each a user; null for other identities"
  value       = one(aws_iam_group.gateways[*].name)
}
