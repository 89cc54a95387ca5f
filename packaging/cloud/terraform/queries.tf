# The views and named queries, from the files of queries/, and the workgroup that people ask them in.
#
# A view is a Glue table of type VIRTUAL_VIEW, as Athena itself stores one; its columns are the `-- column NAME TYPE`
# lines of its header. A named query keeps of its header what says how to ask it, and its parameters are filled in with
# their examples, to be changed in the console. `hr_table` in a text stands for the table's name.
locals {
  queries_folder = "${path.module}/../queries"
  sql = {
    for path in fileset(local.queries_folder, "{,views/}*.sql") :
    path => split("\n", replace(file("${local.queries_folder}/${path}"), "/\\bhr_table\\b/", var.table_name))
  }
  # The statements without their comments.
  statements = {
    for path, lines in local.sql :
    path => trimspace(join("\n", [for line in lines : line if !startswith(trimspace(line), "--")]))
  }

  views = {
    for path, lines in local.sql : trimsuffix(basename(path), ".sql") => {
      description = trimprefix(lines[0], "-- ")
      statement   = join("\n", [for line in split("\n", local.statements[path]) : trimspace(line)])
      columns = [
        for column in regexall("(?m)^-- column (\\w+) ([^ \n]+)", join("\n", lines)) :
        { name = column[0], type = trimsuffix(column[1], ",") }
      ]
    } if startswith(path, "views/")
  }
  glue_types = { varchar = "string", integer = "int", "timestamp(3)" = "timestamp" }

  named_queries = {
    for path, lines in local.sql : trimsuffix(path, ".sql") => {
      description = trimprefix(lines[0], "-- ")
      text = join("\n", concat(
        [for line in lines : line if can(regex("^-- (Parameters: |parameter |Reads: )", line))],
        [local.statements[path]],
      ))
      # A local time is written out to the millisecond.
      examples = {
        for parameter in regexall("(?m)^-- parameter (\\w+) (\\w+) (.+)$", join("\n", lines)) :
        "{${parameter[0]}}" => parameter[1] == "time" ? "${parameter[2]}:00.000" : parameter[2]
      }
    } if !startswith(path, "views/")
  }
}

resource "aws_glue_catalog_table" "view" {
  for_each = local.views

  name          = each.key
  database_name = aws_glue_catalog_database.lake.name
  description   = each.value.description
  table_type    = "VIRTUAL_VIEW"
  parameters    = { presto_view = "true", comment = "Presto View" }

  view_expanded_text = "/* Presto View */"
  view_original_text = format("/* Presto View: %s */", base64encode(jsonencode({
    originalSql = each.value.statement
    catalog     = "awsdatacatalog"
    schema      = var.database_name
    columns     = each.value.columns
  })))

  storage_descriptor {
    ser_de_info {}

    dynamic "columns" {
      for_each = each.value.columns

      content {
        name = columns.value.name
        type = replace(
          lookup(local.glue_types, columns.value.type, columns.value.type), "/^array\\((.+)\\)$/", "array<$1>",
        )
      }
    }
  }
}

resource "aws_athena_workgroup" "people" {
  name          = var.work_group_name
  force_destroy = true # Or one whose queries were ever run could not be deleted.

  configuration {
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.scan_limit_bytes

    engine_version {
      selected_engine_version = "Athena engine version 3"
    }

    result_configuration {
      output_location = "s3://${local.bucket}/${var.prefix}athena-results/"

      encryption_configuration {
        encryption_option = "SSE_KMS"
        kms_key_arn       = local.key_arn
      }
    }
  }
}

resource "aws_athena_named_query" "query" {
  for_each = local.named_queries

  name        = each.key
  description = each.value.description
  database    = aws_glue_catalog_database.lake.name
  workgroup   = aws_athena_workgroup.people.name
  query = join("", [
    for part in regexall("\\{\\w+\\}|[^{]+|\\{", each.value.text) : lookup(each.value.examples, part, part)
  ])
}
