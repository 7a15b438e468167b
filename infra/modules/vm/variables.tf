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

variable "zone" {
  description = "The zone of the machine and of its disks."
  type        = string
}

variable "size" {
  description = "2 vCPU and 4 GiB, not burstable: Kafka uses up a burstable machine's credits. Growing it: runbook grow-the-vm."
  type        = string
  default     = "Standard_D2ls_v5"
}

variable "image_sku" {
  description = "Ubuntu 22.04, as the owner wants it; its standard support ends in spring 2027, then 24.04."
  type = object({
    offer = string
    sku   = string
  })
  default = {
    offer = "0001-com-ubuntu-server-jammy"
    sku   = "22_04-lts-gen2"
  }
}

variable "os_disk_gb" {
  type    = number
  default = 30
}

variable "data_disk" {
  description = "A disk of its own for the stores: survives the machine, and has more operations a second than the 30 GB disk. Null: the stores are on the system's disk."
  type = object({
    size_gb = number
    iops    = optional(number, 3000)
    mbps    = optional(number, 125)
  })
  default = null
}

variable "subnet_id" {
  type = string
}

variable "address" {
  description = "The private address; there is no public one."
  type        = string
}

variable "host" {
  description = "The private DNS name: what clients connect to, and what the certificate names."
  type        = string
}

variable "pool_cidr" {
  description = "From where the pool and Prometheus come."
  type        = string
}

variable "admin_ssh_public_key" {
  description = "Azure wants one; port 22 is closed at the machine and at its subnet. People use az vm run-command."
  type        = string
}

variable "vault_uri" {
  type = string
}

variable "identity" {
  description = "The machine's managed identity, which reads its secrets: id, client id."
  type = object({
    id        = string
    client_id = string
  })
}

variable "versions" {
  description = "What cloud-init installs. kafka_sha512 is read off Apache's download page; mongodb_key is the fingerprint of MongoDB's signing key."
  type = object({
    kafka        = string
    kafka_sha512 = string
    mongodb      = string
    mongodb_key  = optional(string, "4B0752C1BCA238C0B4EE14DC41DE058A4E7DCA05")
  })
  validation {
    condition     = can(regex("^[0-9a-f]{128}$", var.versions.kafka_sha512))
    error_message = "versions.kafka_sha512 must be 128 hexadecimal digits in lower case: see the runbook first-installation."
  }
}
