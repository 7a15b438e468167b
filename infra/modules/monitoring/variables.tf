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

variable "resource_group_id" {
  type = string
}

variable "keep_days" {
  type    = number
  default = 30
}

variable "daily_gb" {
  description = "The most that is taken in a day, so that a noisy day has a price; alerts still work when it is reached."
  type        = number
}

variable "watched" {
  description = "What sends its logs: a name, the resource, and the categories."
  type = map(object({
    id      = string
    logs    = list(string)
    metrics = optional(list(string), ["AllMetrics"])
  }))
}

variable "vm_id" {
  type = string
}

variable "network_id" {
  type = string
}

variable "network_watcher" {
  description = "The region's network watcher, for flow logs of the whole network; null: none."
  type = object({
    name                = string
    resource_group_name = string
  })
}

variable "defender" {
  description = "Microsoft Defender for containers, storage and Key Vault. Of the whole subscription, and priced by it."
  type        = bool
}

variable "mail" {
  description = "Who is told."
  type        = list(string)
  validation {
    condition     = length(var.mail) > 0
    error_message = "Somebody must be told: name at least one address in mail."
  }
}

variable "budget" {
  description = "A month's amount in the subscription's currency, and the first day from which it counts."
  type = object({
    amount = number
    start  = string
  })
  validation {
    condition     = can(regex("^20[0-9]{2}-[01][0-9]-01T00:00:00Z$", var.budget.start))
    error_message = "budget.start must be the first of a month, such as 2026-12-01T00:00:00Z."
  }
}
