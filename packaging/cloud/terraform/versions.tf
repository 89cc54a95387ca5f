# The lake of templates/lake as a module, for accounts that are kept with Terraform or OpenTofu. The provider, its
# region and its default tags are the caller's.
terraform {
  required_version = ">= 1.9" # A variable's validation looks at another variable.

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}
