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

variable "replication" {
  description = "GRS or RAGRS: a copy in the paired region. Not ZRS or GZRS: there the archive tier does not exist."
  type        = string
  default     = "GRS"
  validation {
    condition     = contains(["LRS", "GRS", "RAGRS"], var.replication)
    error_message = "The lifecycle moves blobs to the archive tier, which only LRS, GRS and RAGRS have."
  }
}

variable "inbox_days" {
  description = "How long an upload's bytes stay: longer than dead letters (30 days), so that what is redriven still has its bytes."
  type        = number
  default     = 35
  validation {
    condition     = var.inbox_days > 30
    error_message = "A dead letter lives 30 days, and its upload must outlive it."
  }
}

variable "documents_days" {
  description = "After how many days documents move to the cool and to the archive tier. They are never deleted by a rule."
  type = object({
    cool    = number
    archive = number
  })
  default = { cool = 30, archive = 365 }
  validation {
    condition     = var.documents_days.archive >= var.documents_days.cool + 30
    error_message = "The cool tier bills 30 days at least."
  }
}

variable "backups_days" {
  description = "For how long a backup cannot be changed or deleted by anybody, and when it moves and goes."
  type = object({
    immutable = number
    cool      = number
    archive   = number
    delete    = number
  })
  default = { immutable = 14, cool = 30, archive = 90, delete = 365 }
  validation {
    condition = (
      var.backups_days.immutable < var.backups_days.delete &&
      var.backups_days.cool < var.backups_days.archive &&
      var.backups_days.delete >= var.backups_days.archive + 180
    )
    error_message = "Wanted: immutable < delete (or the rule would fail), cool < archive, and 180 days between archive and delete (they are billed anyway)."
  }
}

variable "soft_delete_days" {
  type    = number
  default = 14
}
