# The parameters of the lake's stack under the same names; what is empty there is null here.

variable "name" {
  description = "Begins the names that nothing else decides - bucket, topic, roles, trust anchor"
  type        = string
  default     = "hr-gatewayd"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,19}$", var.name))
    error_message = "Up to 20 lower-case letters, digits and dashes, a letter first."
  }
}

# Stream
variable "stream_name" {
  description = "Name of the stream that is made - it is what a gateway's configuration names"
  type        = string
  default     = "hr-kinesis-stream"
  nullable    = false
}

variable "stream_mode" {
  description = "PROVISIONED costs less at a steady rate"
  type        = string
  default     = "PROVISIONED"
  nullable    = false

  validation {
    condition     = contains(["PROVISIONED", "ON_DEMAND"], var.stream_mode)
    error_message = "PROVISIONED or ON_DEMAND."
  }
}

variable "shard_count" {
  description = "Of a provisioned stream - one takes 1 MB and 1000 records a second"
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.shard_count >= 1 && var.shard_count <= 200
    error_message = "1 to 200."
  }
}

variable "retention_hours" {
  description = "How long a reader that stands still misses nothing - over 24 costs extra"
  type        = number
  default     = 24
  nullable    = false

  validation {
    condition     = var.retention_hours >= 24 && var.retention_hours <= 8760
    error_message = "24 to 8760."
  }
}

variable "existing_stream_arn" {
  description = "Use this stream instead of making one"
  type        = string
  default     = null
}

variable "existing_stream_key_arn" {
  description = "The KMS key of the existing stream - null if it has none of the account's own"
  type        = string
  default     = null
}

# Lake
variable "existing_bucket" {
  description = "Use this bucket instead of making one - all that is set on it stays its owner's"
  type        = string
  default     = null
}

variable "existing_key_arn" {
  description = "Use this KMS key instead of making one - it must let in the services that key.tf does"
  type        = string
  default     = null
}

variable "prefix" {
  description = "Under which all objects lie - a bucket that is not the module's alone wants one, such as hr-gatewayd/"
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([A-Za-z][A-Za-z0-9-]{0,99}/)?$", var.prefix))
    error_message = "Empty, or letters, digits and dashes with one slash at the end."
  }
}

variable "access_log_bucket" {
  description = "An existing bucket that takes the lake's access logs - null for none"
  type        = string
  default     = null
}

variable "delivery_name" {
  description = "Name of the Firehose delivery"
  type        = string
  default     = "hr_firehose"
  nullable    = false
}

variable "raw_delivery" {
  description = "Keep the untouched NDJSON too"
  type        = bool
  default     = false
  nullable    = false
}

variable "parquet_compression" {
  description = "Firehose writes no other (ZSTD is refused)"
  type        = string
  default     = "GZIP"
  nullable    = false

  validation {
    condition     = contains(["GZIP", "SNAPPY"], var.parquet_compression)
    error_message = "GZIP or SNAPPY."
  }
}

variable "buffer_seconds" {
  description = "A reading is in the lake after about this long - shorter makes more and smaller objects"
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.buffer_seconds >= 60 && var.buffer_seconds <= 900
    error_message = "60 to 900."
  }
}

variable "delivery_time_zone" {
  description = "Of arrival times in object names, such as Asia/Kolkata - the partition is always the UTC day"
  type        = string
  default     = "UTC"
  nullable    = false
}

variable "first_day" {
  description = "The first day a query looks at - a reading that claims to be older is kept under this day"
  type        = string
  default     = "2025-01-01"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", var.first_day))
    error_message = "A day, such as 2025-01-01."
  }
}

variable "cold_after_days" {
  description = "Days until readings move to Intelligent-Tiering"
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.cold_after_days >= 0
    error_message = "0 or more."
  }
}

# Queries
variable "database_name" {
  description = "Name of the Glue database"
  type        = string
  default     = "hr_data"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9_]+$", var.database_name))
    error_message = "Lower-case letters, digits and underscores."
  }
}

variable "table_name" {
  description = "Name of the table of every line that arrived"
  type        = string
  default     = "hr_table"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9_]+$", var.table_name))
    error_message = "Lower-case letters, digits and underscores."
  }
}

variable "crawler_name" {
  description = "A name (such as hr_data_crawler) makes a crawler; projection needs none"
  type        = string
  default     = null
}

variable "work_group_name" {
  description = "Name of the Athena workgroup that people query in"
  type        = string
  default     = "hr-gatewayd"
  nullable    = false
}

variable "scan_limit_bytes" {
  description = "A query that would read more is stopped"
  type        = number
  default     = 1073741824
  nullable    = false

  validation {
    condition     = var.scan_limit_bytes >= 10000000
    error_message = "10000000 or more."
  }
}

# Gateways
variable "gateway_identity" {
  description = "none, roles-anywhere or user - roles-anywhere needs ca_certificate; user is for a first try"
  type        = string
  default     = "none"
  nullable    = false

  validation {
    condition     = contains(["none", "roles-anywhere", "user"], var.gateway_identity)
    error_message = "none, roles-anywhere or user."
  }

  validation {
    condition     = var.gateway_identity != "roles-anywhere" || var.ca_certificate != null
    error_message = "roles-anywhere needs ca_certificate."
  }
}

variable "ca_certificate" {
  description = "PEM of the CA that signs the gateways' certificates"
  type        = string
  default     = null
}

# Alarms and cost
variable "alarm_email" {
  description = "Who is told by mail - null for no subscription"
  type        = string
  default     = null
}

variable "budget_dollars" {
  description = "Per month for the account - 0 for no budget"
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.budget_dollars >= 0
    error_message = "0 or more."
  }
}
