# What the overlay of the environment is told: k8s/overlays/ENV/environment.yaml and settings.env have these names.
output "overlay" {
  value = merge(
    {
      "tenant-id"              = data.azurerm_client_config.current.tenant_id
      "key-vault"              = module.vault.name
      "key-vault-uri"          = module.vault.uri
      "data-machine-cidr"      = "${module.network.data_address}/32"
      "private-endpoints-cidr" = module.network.cidrs.privatelink
      "host"                   = var.host
    },
    { for name, id in module.identities.pod_client_ids : "identity-${name}" => id },
  )
}

output "settings" {
  value = {
    KAFKA_BROKERS        = "${module.network.data_host}:9094"
    BLOB_ENDPOINT        = module.storage.endpoints["documents"]
    BACKUP_BLOB_ENDPOINT = module.storage.endpoints["backups"]
    BACKUP_CLUSTER       = var.environment
  }
}

output "ingress" {
  description = "The annotations of the ingress controller's Service."
  value = local.on.application_gateway ? {
    "service.beta.kubernetes.io/azure-load-balancer-internal"        = "true"
    "service.beta.kubernetes.io/azure-load-balancer-internal-subnet" = "snet-ingress"
    "service.beta.kubernetes.io/azure-load-balancer-ipv4"            = local.internal_address
    } : {
    "service.beta.kubernetes.io/azure-pip-name"                     = module.network.entrance.name
    "service.beta.kubernetes.io/azure-load-balancer-resource-group" = azurerm_resource_group.this.name
  }
}

output "registry" {
  value = module.registry.login_server
}

output "cluster" {
  value = module.aks.name
}

output "resource_group" {
  value = azurerm_resource_group.this.name
}

output "entrance_address" {
  description = "Where the public name points to."
  value       = module.network.entrance.address
}

output "way_out_address" {
  description = "What partners let in."
  value       = module.network.way_out_address
}

output "images_pusher" {
  description = "The principal that pushes images here; another environment's registry_readers may name it."
  value       = module.identities.images_pusher
}

output "workflows" {
  description = "Client ids for the environments of GitHub: push, plan, apply."
  value       = module.identities.workflow_client_ids
}

output "cloud_config" {
  description = "What the data machine was made with."
  value       = module.vm.cloud_config
}
