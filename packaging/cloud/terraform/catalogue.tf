# What Athena knows of the lake.
locals {
  # The wire's fields in the wire's order; src/wire.rs says what each means.
  columns = [
    { name = "timestamp", type = "string" },
    { name = "heart_rate", type = "int" },
    { name = "reading_id", type = "string" },
    { name = "gateway_id", type = "string" },
    { name = "sensor_id", type = "string" },
    { name = "session_id", type = "string" },
    { name = "sequence", type = "bigint" },
    { name = "sensor_contact", type = "boolean" },
    { name = "energy_expended_kj", type = "int" },
    { name = "rr_intervals_ms", type = "array<double>" },
    { name = "sensor_location", type = "string" },
    { name = "mode", type = "string" },
    { name = "record", type = "string" },
    { name = "battery_percent", type = "int" },
    { name = "rssi_dbm", type = "int" },
    { name = "gateway_version", type = "string" },
    { name = "sensors", type = "int" },
    { name = "sensors_streaming", type = "int" },
    { name = "queue_depth", type = "bigint" },
    { name = "queue_oldest_s", type = "bigint" },
    { name = "disk_free_bytes", type = "bigint" },
    { name = "gap_reason", type = "string" },
    { name = "gap_start", type = "string" },
    { name = "gap_end", type = "string" },
    { name = "gap_readings_lost", type = "bigint" },
    { name = "clock", type = "string" },
    { name = "schema_version", type = "int" },
  ]
  column_comments = {
    timestamp = "RFC 3339 UTC of 24 characters - text sorts as time does and keeps its Parquet statistics"
  }
  readings_location = "s3://${local.bucket}/${var.prefix}heart_rate_data/"
}

resource "aws_glue_catalog_database" "lake" {
  name        = var.database_name
  description = "Heart-rate readings of hr-gatewayd"
}

resource "aws_glue_catalog_table" "readings" {
  name          = var.table_name
  database_name = aws_glue_catalog_database.lake.name
  description   = "Every line that arrived, duplicates and gap records included; read hr_readings_unique instead"
  table_type    = "EXTERNAL_TABLE"

  parameters = {
    "classification"            = "parquet"
    "EXTERNAL"                  = "TRUE"
    "projection.enabled"        = "true"
    "projection.date.type"      = "date"
    "projection.date.format"    = "yyyy-MM-dd"
    "projection.date.range"     = "${var.first_day},NOW+800DAYS" # What a clock ahead wrote is to be seen.
    "storage.location.template" = "${local.readings_location}date=$${date}/"
  }

  partition_keys {
    name    = "date"
    type    = "string"
    comment = "The event's UTC day"
  }

  storage_descriptor {
    location      = local.readings_location
    input_format  = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
    output_format = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"

    ser_de_info {
      serialization_library = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
    }

    dynamic "columns" {
      for_each = local.columns

      content {
        name    = columns.value.name
        type    = columns.value.type
        comment = lookup(local.column_comments, columns.value.name, null)
      }
    }
  }
}
