variable "settings" {
  description = "settings.auto.tfvars; modules/environment/variables.tf says what each is."
  type = object({
    location               = string
    size                   = optional(string, "starter")
    choices                = optional(map(bool), {})
    cidr                   = string
    base_nodes             = optional(object({ min = number, max = number }), { min = 3, max = 6 })
    job_nodes              = optional(object({ min = number, max = number }), { min = 0, max = 10 })
    api_authorized_ranges  = optional(list(string), [])
    admin_group_ids        = list(string)
    firewall_allowed_hosts = optional(list(string), [])
    gateway_subnet         = optional(bool, false)
    peered_network_ids     = optional(map(string), {})
    network_watcher        = optional(object({ name = string, resource_group_name = string }))
    vm = object({
      zone                 = optional(string, "1")
      size                 = optional(string, "Standard_D2ls_v5")
      os_disk_gb           = optional(number, 30)
      data_disk            = optional(object({ size_gb = number, iops = optional(number, 3000), mbps = optional(number, 125) }))
      admin_ssh_public_key = string
      kafka_version        = string
      kafka_sha512         = string
      mongodb_version      = string
    })
    storage_replication = optional(string, "GRS")
    host                = string
    github_repository   = string
    registry_readers    = optional(map(string), {})
    state_container_id  = string
    mail                = list(string)
    budget              = object({ amount = number, start = string })
  })
}

variable "vault_admin_addresses" {
  description = "Given on the command line while somebody makes or rotates secrets, never kept."
  type        = list(string)
  default     = []
}
