variable "environment" {
  description = "staging or production: part of every name."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{3,10}$", var.environment))
    error_message = "environment must be 3 to 10 small letters: it is part of names that Azure limits to 24."
  }
}

variable "location" {
  description = "A region with three availability zones and a paired region."
  type        = string
}

variable "size" {
  description = "starter: what the owner described, at the least cost. hardened: what a reviewer of security asks for."
  type        = string
  default     = "starter"
  validation {
    condition     = contains(["starter", "hardened"], var.size)
    error_message = "size is starter or hardened."
  }
}

variable "choices" {
  description = "Takes single things out of, or adds them to, what size brings."
  type = object({
    application_gateway = optional(bool)
    private_registry    = optional(bool)
    firewall            = optional(bool)
    defender            = optional(bool)
    system_pool         = optional(bool)
    private_cluster     = optional(bool)
  })
  default = {}
}

variable "cidr" {
  type = string
}

variable "pod_cidr" {
  type    = string
  default = "10.244.0.0/16"
}

variable "service_cidr" {
  type    = string
  default = "10.245.0.0/16"
}

variable "gateway_subnet" {
  type    = bool
  default = false
}

variable "peered_network_ids" {
  type    = map(string)
  default = {}
}

variable "firewall_allowed_hosts" {
  description = "With the firewall: chain nodes, the issuer of tokens, the manifests repository; and where the platform's charts and public images come from, or nothing of k8s/platform starts."
  type        = list(string)
  default     = []
}

variable "kubernetes_version" {
  type    = string
  default = "1.36"
}

variable "node_size" {
  type    = string
  default = "Standard_D2ds_v5"
}

variable "base_nodes" {
  type    = object({ min = number, max = number })
  default = { min = 3, max = 6 }
}

variable "job_nodes" {
  description = "min 1 keeps one node warm: a job then starts in seconds, and not in minutes."
  type        = object({ min = number, max = number })
  default     = { min = 0, max = 10 }
}

variable "system_nodes" {
  type    = object({ size = string, min = number, max = number })
  default = { size = "Standard_D4ds_v5", min = 3, max = 4 }
}

variable "api_authorized_ranges" {
  type    = list(string)
  default = []
}

variable "admin_group_ids" {
  type = list(string)
}

variable "vault_admin_addresses" {
  type    = list(string)
  default = []
}

variable "vm" {
  type = object({
    zone                 = optional(string, "1")
    size                 = optional(string, "Standard_D2ls_v5")
    os_disk_gb           = optional(number, 30)
    data_disk            = optional(object({ size_gb = number, iops = optional(number, 3000), mbps = optional(number, 125) }))
    admin_ssh_public_key = string
    kafka_version        = string
    kafka_sha512         = string
    mongodb_version      = string
  })
}

variable "storage_replication" {
  type    = string
  default = "GRS"
}

variable "host" {
  description = "The public name of the intake."
  type        = string
}

variable "github_repository" {
  type = string
}

variable "registry_readers" {
  description = "In staging: production's output images_pusher, so that production can take on what staging has tried."
  type        = map(string)
  default     = {}
}

variable "state_container_id" {
  type = string
}

variable "network_watcher" {
  type    = object({ name = string, resource_group_name = string })
  default = null
}

variable "azure_monitor_daily_gb" {
  type    = number
  default = 1
}

variable "mail" {
  type = list(string)
}

variable "budget" {
  type = object({ amount = number, start = string })
}

variable "tags" {
  type    = map(string)
  default = {}
}
