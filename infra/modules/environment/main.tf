# One environment, whole. starter and hardened differ by the switches below and by nothing else.
locals {
  hardened = var.size == "hardened"
  on = {
    application_gateway = coalesce(var.choices.application_gateway, local.hardened)
    private_registry    = coalesce(var.choices.private_registry, local.hardened)
    firewall            = coalesce(var.choices.firewall, local.hardened)
    defender            = coalesce(var.choices.defender, local.hardened)
    system_pool         = coalesce(var.choices.system_pool, local.hardened)
    private_cluster     = coalesce(var.choices.private_cluster, local.hardened)
  }
  tags = merge({ application = "libertum", environment = var.environment, "managed-by" = "terraform" }, var.tags)
  place = {
    environment         = var.environment
    resource_group_name = azurerm_resource_group.this.name
    location            = azurerm_resource_group.this.location
    tags                = local.tags
  }
  # The cluster's internal load balancer, when the application gateway stands before it: overlays set it on their Service.
  internal_address = cidrhost(module.network.cidrs.ingress, 10)
}

resource "azurerm_resource_group" "this" {
  name     = "rg-libertum-${var.environment}"
  location = var.location
  tags     = local.tags
  lifecycle {
    prevent_destroy = true
  }
}

module "network" {
  source                 = "../network"
  name                   = var.environment
  resource_group_name    = local.place.resource_group_name
  location               = local.place.location
  tags                   = local.tags
  cidr                   = var.cidr
  pod_cidr               = var.pod_cidr
  public_load_balancer   = !local.on.application_gateway
  firewall               = local.on.firewall
  firewall_allowed_hosts = var.firewall_allowed_hosts
  gateway_subnet         = var.gateway_subnet
  peered_network_ids     = var.peered_network_ids
}

module "vault" {
  source              = "../vault"
  environment         = local.place.environment
  resource_group_name = local.place.resource_group_name
  location            = local.place.location
  tags                = local.tags
  subnet_id           = module.network.subnet_ids["privatelink"]
  private_dns_zone_id = module.network.private_dns_zone_ids["vault"]
  admin_addresses     = var.vault_admin_addresses
}

module "storage" {
  source              = "../storage"
  environment         = local.place.environment
  resource_group_name = local.place.resource_group_name
  location            = local.place.location
  tags                = local.tags
  subnet_id           = module.network.subnet_ids["privatelink"]
  private_dns_zone_id = module.network.private_dns_zone_ids["blob"]
  replication         = var.storage_replication
}

module "registry" {
  source              = "../registry"
  environment         = local.place.environment
  resource_group_name = local.place.resource_group_name
  location            = local.place.location
  tags                = local.tags
  private             = local.on.private_registry
  subnet_id           = module.network.subnet_ids["privatelink"]
  private_dns_zone_id = module.network.private_dns_zone_ids["registry"]
}

resource "azurerm_user_assigned_identity" "vm" {
  name                = "id-data-libertum-${var.environment}"
  resource_group_name = local.place.resource_group_name
  location            = local.place.location
  tags                = local.tags
}

module "vm" {
  source               = "../vm"
  environment          = local.place.environment
  resource_group_name  = local.place.resource_group_name
  location             = local.place.location
  tags                 = local.tags
  zone                 = var.vm.zone
  size                 = var.vm.size
  os_disk_gb           = var.vm.os_disk_gb
  data_disk            = var.vm.data_disk
  subnet_id            = module.network.subnet_ids["data"]
  address              = module.network.data_address
  host                 = module.network.data_host
  pool_cidr            = module.network.cidrs.aks
  admin_ssh_public_key = var.vm.admin_ssh_public_key
  vault_uri            = module.vault.uri
  identity = {
    id        = azurerm_user_assigned_identity.vm.id
    client_id = azurerm_user_assigned_identity.vm.client_id
  }
  versions = {
    kafka        = var.vm.kafka_version
    kafka_sha512 = var.vm.kafka_sha512
    mongodb      = var.vm.mongodb_version
  }
}

module "aks" {
  source                = "../aks"
  environment           = local.place.environment
  resource_group_name   = local.place.resource_group_name
  location              = local.place.location
  tags                  = local.tags
  kubernetes_version    = var.kubernetes_version
  subnet_id             = module.network.subnet_ids["aks"]
  ingress_subnet_id     = module.network.subnet_ids["ingress"]
  entrance              = local.on.application_gateway ? null : module.network.entrance
  firewall              = local.on.firewall
  route_table_id        = module.network.route_table_id
  node_size             = var.node_size
  base_nodes            = var.base_nodes
  job_nodes             = var.job_nodes
  system_pool           = local.on.system_pool ? var.system_nodes : null
  private_cluster       = local.on.private_cluster
  api_authorized_ranges = var.api_authorized_ranges
  admin_group_ids       = var.admin_group_ids
  pod_cidr              = var.pod_cidr
  service_cidr          = var.service_cidr
  defender_workspace    = local.on.defender ? { id = module.monitoring.workspace_id } : null
}

module "ingress" {
  count                 = local.on.application_gateway ? 1 : 0
  source                = "../ingress"
  environment           = local.place.environment
  resource_group_name   = local.place.resource_group_name
  location              = local.place.location
  tags                  = local.tags
  subnet_id             = module.network.subnet_ids["public"]
  public_ip_id          = module.network.entrance.id
  backend_address       = local.internal_address
  host                  = var.host
  vault_id              = module.vault.id
  certificate_secret_id = "${module.vault.uri}/secrets/gateway-tls"
}

module "identities" {
  source               = "../identities"
  environment          = local.place.environment
  resource_group_name  = local.place.resource_group_name
  location             = local.place.location
  tags                 = local.tags
  resource_group_id    = azurerm_resource_group.this.id
  cluster_id           = module.aks.id
  oidc_issuer_url      = module.aks.oidc_issuer_url
  kubelet_principal_id = module.aks.kubelet_principal_id
  github_repository    = var.github_repository
  registry_id          = module.registry.id
  registry_readers     = var.registry_readers
  container_ids        = module.storage.container_ids
  vault_id             = module.vault.id
  vm_principal_id      = azurerm_user_assigned_identity.vm.principal_id
  vm_secrets           = module.vm.secrets
  state_container_id   = var.state_container_id
}

module "monitoring" {
  source              = "../monitoring"
  environment         = local.place.environment
  resource_group_name = local.place.resource_group_name
  location            = local.place.location
  tags                = local.tags
  resource_group_id   = azurerm_resource_group.this.id
  daily_gb            = var.azure_monitor_daily_gb
  vm_id               = module.vm.id
  network_id          = module.network.id
  network_watcher     = var.network_watcher
  defender            = local.on.defender
  mail                = var.mail
  budget              = var.budget
  watched = {
    # kube-audit-admin leaves the reads out, which are nine tenths of the volume.
    aks       = { id = module.aks.id, logs = ["kube-audit-admin", "guard", "cluster-autoscaler", "kube-controller-manager"], metrics = [] }
    vault     = { id = module.vault.id, logs = ["AuditEvent", "AzurePolicyEvaluationDetails"] }
    registry  = { id = module.registry.id, logs = ["ContainerRegistryLoginEvents", "ContainerRegistryRepositoryEvents"] }
    documents = { id = "${module.storage.account_ids["documents"]}/blobServices/default", logs = ["StorageDelete", "StorageWrite"], metrics = ["Transaction"] }
    backups   = { id = "${module.storage.account_ids["backups"]}/blobServices/default", logs = ["StorageRead", "StorageDelete", "StorageWrite"], metrics = ["Transaction"] }
  }
}

data "azurerm_client_config" "current" {}
