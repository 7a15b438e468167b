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

variable "kubernetes_version" {
  description = "A minor version. It fixes KEDA's: 1.36 brings 2.19, and scalers/ uses nothing newer."
  type        = string
}

variable "subnet_id" {
  type = string
}

variable "entrance" {
  description = "The public address that the cluster's load balancer may use, or null."
  type = object({
    id = string
  })
}

variable "route_table_id" {
  description = "With a firewall: the route table of the nodes' subnet."
  type        = string
}

variable "firewall" {
  type = bool
}

variable "ingress_subnet_id" {
  type = string
}

variable "node_size" {
  description = "2 vCPU and 8 GiB, with a temporary disk that the system can live on."
  type        = string
}

variable "base_nodes" {
  type = object({
    min = number
    max = number
  })
}

variable "job_nodes" {
  type = object({
    min = number
    max = number
  })
}

variable "system_pool" {
  description = "A pool of its own for what AKS runs, with 4 vCPU as Microsoft recommends; null: the base pool carries it."
  type = object({
    size = string
    min  = number
    max  = number
  })
}

variable "private_cluster" {
  type = bool
}

variable "api_authorized_ranges" {
  description = "Without a private cluster: who may reach the API server."
  type        = list(string)
}

variable "admin_group_ids" {
  description = "Entra groups that administer the cluster. There are no local accounts."
  type        = list(string)
}

variable "pod_cidr" {
  type = string
}

variable "service_cidr" {
  type = string
}

variable "defender_workspace" {
  description = "With Defender: the Log Analytics workspace of its sensor, else null."
  type = object({
    id = string
  })
}
