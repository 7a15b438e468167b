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

variable "oidc_issuer_url" {
  type = string
}

variable "github_repository" {
  description = "OWNER/NAME of this repository: whose workflows may sign on."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", var.github_repository))
    error_message = "github_repository must be OWNER/NAME."
  }
}

variable "resource_group_id" {
  type = string
}

variable "registry_id" {
  type = string
}

variable "registry_readers" {
  description = "Who else may pull images, by a name of ours: the principal id of another environment's pusher (its output images_pusher)."
  type        = map(string)
}

variable "kubelet_principal_id" {
  type = string
}

variable "container_ids" {
  type = map(string)
}

variable "vault_id" {
  type = string
}

variable "vm_principal_id" {
  type = string
}

variable "vm_secrets" {
  description = "What the data machine reads of the vault, by name."
  type        = set(string)
}

variable "cluster_id" {
  type = string
}

variable "state_container_id" {
  description = "The container of Terraform's state."
  type        = string
}
