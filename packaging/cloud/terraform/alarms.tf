# Who hears of what, and what it may cost.
resource "aws_sns_topic" "alarms" {
  name_prefix       = "${var.name}-"
  kms_master_key_id = local.key_arn
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Principal = { Service = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"] }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms.arn
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
      # EventBridge is not documented to name its account to SNS; at worst a stranger who knows the topic makes noise.
      {
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms.arn
      },
    ]
  })
}

resource "aws_sns_topic_subscription" "mail" {
  count = var.alarm_email == null ? 0 : 1

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

# Firehose writes to this log group only what went wrong.
resource "aws_cloudwatch_log_metric_filter" "delivery_errors" {
  name           = "${var.delivery_name}-errors"
  log_group_name = aws_cloudwatch_log_group.delivery.name
  pattern        = ""

  metric_transformation {
    namespace = "hr-gatewayd"
    name      = "${var.delivery_name}-errors"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "delivery_errors" {
  alarm_name          = "${var.name}-delivery-errors"
  alarm_description   = "Firehose reported errors; look at errors/ in the bucket and at the delivery's log group"
  namespace           = "hr-gatewayd"
  metric_name         = "${var.delivery_name}-errors"
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_metric_alarm" "freshness" {
  alarm_name          = "${var.name}-freshness"
  alarm_description   = "The oldest reading that is not yet in the bucket is more than an hour old"
  namespace           = "AWS/Firehose"
  metric_name         = "DeliveryToS3.DataFreshness"
  dimensions          = { DeliveryStreamName = aws_kinesis_firehose_delivery_stream.parquet.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 3600
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

# An existing bucket needs its EventBridge switch on for this one.
resource "aws_cloudwatch_event_rule" "error_object" {
  name_prefix = "${var.name}-error-object-"
  description = "An object landed under errors/"
  event_pattern = jsonencode({
    source      = ["aws.s3"]
    detail-type = ["Object Created"]
    detail = {
      bucket = { name = [local.bucket] }
      object = { key = [{ prefix = "${var.prefix}errors/" }] }
    }
  })
}

resource "aws_cloudwatch_event_target" "error_object" {
  rule      = aws_cloudwatch_event_rule.error_object.name
  target_id = "topic"
  arn       = aws_sns_topic.alarms.arn
}

resource "aws_budgets_budget" "account" {
  count = var.budget_dollars == 0 ? 0 : 1

  name_prefix  = "${var.name}-"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.budget_dollars)
  limit_unit   = "USD"

  notification {
    notification_type         = "ACTUAL"
    comparison_operator       = "GREATER_THAN"
    threshold                 = 80
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
  }

  notification {
    notification_type         = "FORECASTED"
    comparison_operator       = "GREATER_THAN"
    threshold                 = 100
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
  }
}
