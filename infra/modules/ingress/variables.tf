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

variable "zones" {
  type    = list(string)
  default = ["1", "2", "3"]
}

variable "subnet_id" {
  description = "The public subnet."
  type        = string
}

variable "public_ip_id" {
  type = string
}

variable "backend_address" {
  description = "Where the cluster's internal load balancer listens, in the ingress subnet."
  type        = string
}

variable "host" {
  description = "The name under which the world posts documents."
  type        = string
}

variable "vault_id" {
  type = string
}

variable "certificate_secret_id" {
  description = "The vault's secret with the certificate of the host (a Key Vault certificate: PFX)."
  type        = string
}

variable "max_body_mb" {
  description = "The largest body that the firewall lets pass; more goes by a direct upload to Blob."
  type        = number
  default     = 750
}
