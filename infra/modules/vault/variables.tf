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

variable "subnet_id" {
  type = string
}

variable "private_dns_zone_id" {
  type = string
}

variable "admin_addresses" {
  description = "Addresses that reach the vault from outside while somebody makes or rotates secrets (infra/secrets); empty otherwise."
  type        = list(string)
}
