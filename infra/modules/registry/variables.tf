variable "environment" {
  type = string
}

variable "resource_group_name" {
  type = string
}

variable "location" {
  type = string
}

variable "tags" {
  type = map(string)
}

variable "private" {
  description = "Premium, reached from inside only; else Standard, open to the Internet for those with a right (nobody is anonymous)."
  type        = bool
}

variable "subnet_id" {
  type = string
}

variable "private_dns_zone_id" {
  type = string
}

variable "keep_untagged_days" {
  description = "How long an image without a tag stays. Tagged ones are not touched by this: scripts/lib/old-images names those that no deployment needs."
  type        = number
  default     = 14
}
