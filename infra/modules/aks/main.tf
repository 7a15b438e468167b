data "azurerm_client_config" "current" {}

locals {
  zones    = ["1", "2", "3"]
  max_pods = 50 # the default, 250, costs a quarter of a node's memory in reserve
  system   = var.system_pool != null
  first = local.system ? {
    name = "system", size = var.system_pool.size, min = var.system_pool.min, max = var.system_pool.max
    } : {
    name = "base", size = var.node_size, min = var.base_nodes.min, max = var.base_nodes.max
  }
  job_label = "libertum.io/pool"
}

resource "azurerm_user_assigned_identity" "cluster" {
  name                = "id-aks-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

# What the cluster changes outside its own resource group: its subnets, the entrance, the route table.
resource "azurerm_role_assignment" "network" {
  for_each = merge(
    { nodes = var.subnet_id, ingress = var.ingress_subnet_id },
    var.entrance == null ? {} : { entrance = var.entrance.id },
    var.firewall ? { routes = var.route_table_id } : {},
  )
  scope                            = each.value
  role_definition_name             = "Network Contributor"
  principal_id                     = azurerm_user_assigned_identity.cluster.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_kubernetes_cluster" "this" {
  name                              = "aks-libertum-${var.environment}"
  resource_group_name               = var.resource_group_name
  location                          = var.location
  node_resource_group               = "rg-libertum-${var.environment}-nodes"
  dns_prefix                        = "libertum-${var.environment}"
  kubernetes_version                = var.kubernetes_version
  sku_tier                          = "Standard"
  support_plan                      = "KubernetesOfficial"
  automatic_upgrade_channel         = "patch"
  node_os_upgrade_channel           = "NodeImage"
  local_account_disabled            = true
  role_based_access_control_enabled = true
  oidc_issuer_enabled               = true
  workload_identity_enabled         = true
  azure_policy_enabled              = true
  run_command_enabled               = false
  private_cluster_enabled           = var.private_cluster
  image_cleaner_enabled             = true
  image_cleaner_interval_hours      = 48
  cost_analysis_enabled             = true

  default_node_pool {
    name                         = local.first.name
    vm_size                      = local.first.size
    zones                        = local.zones
    auto_scaling_enabled         = true
    min_count                    = local.first.min
    max_count                    = local.first.max
    max_pods                     = local.max_pods
    vnet_subnet_id               = var.subnet_id
    only_critical_addons_enabled = local.system
    host_encryption_enabled      = true
    os_disk_type                 = "Ephemeral"
    os_disk_size_gb              = 64
    os_sku                       = "AzureLinux"
    node_labels                  = local.system ? {} : { (local.job_label) = "base" }
    temporary_name_for_rotation  = "rotating"
    upgrade_settings {
      max_surge                     = "33%"
      drain_timeout_in_minutes      = 30
      node_soak_duration_in_minutes = 0
    }
    tags = var.tags
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.cluster.id]
  }

  azure_active_directory_role_based_access_control {
    azure_rbac_enabled     = true
    tenant_id              = data.azurerm_client_config.current.tenant_id
    admin_group_object_ids = var.admin_group_ids
  }

  dynamic "api_server_access_profile" {
    for_each = var.private_cluster ? [] : [1]
    content {
      authorized_ip_ranges = var.api_authorized_ranges
    }
  }

  network_profile {
    network_plugin      = "azure"
    network_plugin_mode = "overlay"
    network_policy      = "cilium"
    network_data_plane  = "cilium"
    load_balancer_sku   = "standard"
    outbound_type       = var.firewall ? "userDefinedRouting" : "userAssignedNATGateway"
    pod_cidr            = var.pod_cidr
    service_cidr        = var.service_cidr
    dns_service_ip      = cidrhost(var.service_cidr, 10)
  }

  # Reaches the nodes through the API: a label or taint set on a node by hand is not there when the pool grows from zero.
  auto_scaler_profile {
    expander                      = "least-waste"
    scan_interval                 = "10s"
    scale_down_unneeded           = "5m"
    scale_down_delay_after_add    = "5m"
    max_graceful_termination_sec  = "600"
    skip_nodes_with_local_storage = false
    balance_similar_node_groups   = true
  }

  workload_autoscaler_profile {
    keda_enabled = true
  }

  key_vault_secrets_provider {
    secret_rotation_enabled  = true
    secret_rotation_interval = "2m"
  }

  dynamic "microsoft_defender" {
    for_each = var.defender_workspace == null ? [] : [1]
    content {
      log_analytics_workspace_id = var.defender_workspace.id
    }
  }

  storage_profile {
    blob_driver_enabled         = false
    file_driver_enabled         = false
    disk_driver_enabled         = true
    snapshot_controller_enabled = true
  }

  maintenance_window_auto_upgrade {
    frequency   = "Weekly"
    interval    = 1
    day_of_week = "Sunday"
    start_time  = "03:00"
    utc_offset  = "+00:00"
    duration    = 4
  }

  maintenance_window_node_os {
    frequency   = "Weekly"
    interval    = 1
    day_of_week = "Saturday"
    start_time  = "03:00"
    utc_offset  = "+00:00"
    duration    = 4
  }

  tags = var.tags

  lifecycle {
    # The autoscaler's.
    ignore_changes = [default_node_pool[0].node_count]
    precondition {
      condition     = var.private_cluster || length(var.api_authorized_ranges) > 0
      error_message = "Say who may reach the API server (api_authorized_ranges), or make the cluster private."
    }
    precondition {
      condition     = length(var.admin_group_ids) > 0
      error_message = "Without an Entra group in admin_group_ids nobody could administer the cluster: there are no local accounts."
    }
  }

  depends_on = [azurerm_role_assignment.network]
}

# The platform and the intake, when the first pool is AKS's own.
resource "azurerm_kubernetes_cluster_node_pool" "base" {
  count                   = local.system ? 1 : 0
  name                    = "base"
  kubernetes_cluster_id   = azurerm_kubernetes_cluster.this.id
  mode                    = "User"
  vm_size                 = var.node_size
  zones                   = local.zones
  auto_scaling_enabled    = true
  min_count               = var.base_nodes.min
  max_count               = var.base_nodes.max
  max_pods                = local.max_pods
  vnet_subnet_id          = var.subnet_id
  host_encryption_enabled = true
  os_disk_type            = "Ephemeral"
  os_disk_size_gb         = 64
  os_sku                  = "AzureLinux"
  node_labels             = { (local.job_label) = "base" }
  upgrade_settings {
    max_surge                = "33%"
    drain_timeout_in_minutes = 30
  }
  tags = var.tags
  lifecycle {
    ignore_changes = [node_count]
  }
}

# The workers: nobody else may run here, and without work there is no node.
resource "azurerm_kubernetes_cluster_node_pool" "jobs" {
  name                    = "jobs"
  kubernetes_cluster_id   = azurerm_kubernetes_cluster.this.id
  mode                    = "User"
  vm_size                 = var.node_size
  zones                   = local.zones
  auto_scaling_enabled    = true
  min_count               = var.job_nodes.min
  max_count               = var.job_nodes.max
  max_pods                = local.max_pods
  vnet_subnet_id          = var.subnet_id
  host_encryption_enabled = true
  os_disk_type            = "Ephemeral"
  os_disk_size_gb         = 64
  os_sku                  = "AzureLinux"
  node_labels             = { (local.job_label) = "jobs" }
  node_taints             = ["${local.job_label}=jobs:NoSchedule"]
  upgrade_settings {
    max_surge = "33%"
    # A job may take up to half an hour (activeDeadlineSeconds); an upgrade waits for it.
    drain_timeout_in_minutes = 45
  }
  tags = var.tags
  lifecycle {
    ignore_changes = [node_count]
  }
}
