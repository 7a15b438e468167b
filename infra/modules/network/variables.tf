variable "name" {
  description = "The environment: part of every name."
  type        = string
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

variable "cidr" {
  description = "The network's range, a /16; subnets are cut from it as in subnets.tf."
  type        = string
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "cidr must be a /16, such as 10.20.0.0/16."
  }
}

variable "public_load_balancer" {
  description = "Whether the Internet reaches the pool by a public load balancer of the cluster (starter) or by the application gateway (hardened)."
  type        = bool
}

variable "firewall" {
  description = "Whether everything that leaves goes through an Azure Firewall."
  type        = bool
}

variable "firewall_allowed_hosts" {
  description = "With the firewall: host names that may be reached over 443 besides what AKS itself needs."
  type        = list(string)
}

variable "gateway_subnet" {
  description = "Whether there is a GatewaySubnet, for a VPN or ExpressRoute gateway to the office."
  type        = bool
}

variable "peered_network_ids" {
  description = "Networks to be peered with, by a name of ours."
  type        = map(string)
}

variable "pod_cidr" {
  description = "The range of the pods' addresses; outside of cidr."
  type        = string
}
