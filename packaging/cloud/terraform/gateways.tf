# Who may put readings on the stream.
resource "aws_iam_policy" "gateway" {
  count = local.by_certificate || local.by_user ? 1 : 0

  name_prefix = "${var.name}-gateway-"
  description = "Put readings on the one stream, nothing else"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{ Effect = "Allow", Action = "kinesis:PutRecords", Resource = local.stream_arn }],
      local.stream_key_arn == null ? [] : [
        { Effect = "Allow", Action = "kms:GenerateDataKey", Resource = local.stream_key_arn },
      ],
    )
  })
}

resource "aws_rolesanywhere_trust_anchor" "gateways" {
  count = local.by_certificate ? 1 : 0

  name    = "${var.name}-gateways"
  enabled = true

  source {
    source_type = "CERTIFICATE_BUNDLE"

    source_data {
      x509_certificate_data = var.ca_certificate
    }
  }
}

resource "aws_iam_role" "gateway" {
  count = local.by_certificate ? 1 : 0

  name_prefix = "${var.name}-gateway-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "rolesanywhere.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"]
      Condition = { ArnEquals = { "aws:SourceArn" = aws_rolesanywhere_trust_anchor.gateways[0].arn } }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "gateway" {
  count = local.by_certificate ? 1 : 0

  role       = aws_iam_role.gateway[0].name
  policy_arn = aws_iam_policy.gateway[0].arn
}

resource "aws_rolesanywhere_profile" "gateways" {
  count = local.by_certificate ? 1 : 0

  name             = "${var.name}-gateways"
  enabled          = true
  duration_seconds = 3600
  role_arns        = [aws_iam_role.gateway[0].arn]
}

# A user for each gateway goes into it.
resource "aws_iam_group" "gateways" {
  count = local.by_user ? 1 : 0

  name = "${var.name}-gateways"
}

resource "aws_iam_group_policy_attachment" "gateways" {
  count = local.by_user ? 1 : 0

  group      = aws_iam_group.gateways[0].name
  policy_arn = aws_iam_policy.gateway[0].arn
}
