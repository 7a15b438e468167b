# What Azure itself says: control plane, vault, registry, storage. The pool's own logs and metrics go to Loki and
# Prometheus in the cluster (k8s/platform).
resource "azurerm_log_analytics_workspace" "this" {
  name                         = "log-libertum-${var.environment}"
  resource_group_name          = var.resource_group_name
  location                     = var.location
  sku                          = "PerGB2018"
  retention_in_days            = var.keep_days
  daily_quota_gb               = var.daily_gb
  local_authentication_enabled = false
  tags                         = var.tags
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  for_each                       = var.watched
  name                           = "libertum"
  target_resource_id             = each.value.id
  log_analytics_workspace_id     = azurerm_log_analytics_workspace.this.id
  log_analytics_destination_type = "Dedicated"
  dynamic "enabled_log" {
    for_each = toset(each.value.logs)
    content {
      category = enabled_log.value
    }
  }
  dynamic "enabled_metric" {
    for_each = toset(each.value.metrics)
    content {
      category = enabled_metric.value
    }
  }
}

resource "azurerm_monitor_action_group" "this" {
  name                = "ag-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  short_name          = "libertum"
  dynamic "email_receiver" {
    for_each = toset(var.mail)
    content {
      name                    = email_receiver.value
      email_address           = email_receiver.value
      use_common_alert_schema = true
    }
  }
  tags = var.tags
}

# The one machine without which nothing works: told from outside too, for when Prometheus is as blind as it.
resource "azurerm_monitor_metric_alert" "vm_down" {
  name                = "data-machine-unavailable"
  resource_group_name = var.resource_group_name
  scopes              = [var.vm_id]
  description         = "The data machine is not available. Runbook: restore-after-losing-the-vm."
  severity            = 0
  frequency           = "PT1M"
  window_size         = "PT5M"
  criteria {
    metric_namespace = "Microsoft.Compute/virtualMachines"
    metric_name      = "VmAvailabilityMetric"
    aggregation      = "Average"
    operator         = "LessThan"
    threshold        = 1
  }
  action {
    action_group_id = azurerm_monitor_action_group.this.id
  }
  tags = var.tags
}

resource "azurerm_monitor_metric_alert" "vm_disk" {
  name                = "data-machine-disk-slow"
  resource_group_name = var.resource_group_name
  scopes              = [var.vm_id]
  description         = "The data machine's disk is at its limit. Runbook: grow-the-vm (a disk of its own for the stores)."
  severity            = 2
  frequency           = "PT5M"
  window_size         = "PT30M"
  criteria {
    metric_namespace = "Microsoft.Compute/virtualMachines"
    metric_name      = "OS Disk IOPS Consumed Percentage"
    aggregation      = "Average"
    operator         = "GreaterThan"
    threshold        = 90
  }
  action {
    action_group_id = azurerm_monitor_action_group.this.id
  }
  tags = var.tags
}

resource "azurerm_consumption_budget_resource_group" "this" {
  name              = "budget-libertum-${var.environment}"
  resource_group_id = var.resource_group_id
  amount            = var.budget.amount
  time_grain        = "Monthly"
  time_period {
    start_date = var.budget.start
  }
  dynamic "notification" {
    for_each = { half = [50, "Actual"], most = [80, "Actual"], all = [100, "Actual"], foreseen = [110, "Forecasted"] }
    content {
      operator       = "GreaterThan"
      threshold      = notification.value[0]
      threshold_type = notification.value[1]
      contact_emails = var.mail
    }
  }
}

resource "azurerm_storage_account" "flows" {
  count                           = var.network_watcher == null ? 0 : 1
  name                            = "stlibertum${var.environment}flow"
  resource_group_name             = var.resource_group_name
  location                        = var.location
  account_kind                    = "StorageV2"
  account_tier                    = "Standard"
  account_replication_type        = "LRS"
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  allow_nested_items_to_be_public = false
  shared_access_key_enabled       = false
  local_user_enabled              = false
  # Written by Azure's network watcher, which the firewall of the account knows as a trusted service.
  network_rules {
    default_action = "Deny"
    bypass         = ["AzureServices"]
  }
  blob_properties {
    delete_retention_policy {
      days = 7
    }
  }
  tags = var.tags
}

resource "azurerm_network_watcher_flow_log" "this" {
  count                = var.network_watcher == null ? 0 : 1
  name                 = "flow-libertum-${var.environment}"
  network_watcher_name = var.network_watcher.name
  resource_group_name  = var.network_watcher.resource_group_name
  target_resource_id   = var.network_id
  storage_account_id   = azurerm_storage_account.flows[0].id
  enabled              = true
  version              = 2
  retention_policy {
    enabled = true
    days    = var.keep_days
  }
  traffic_analytics {
    enabled               = true
    workspace_id          = azurerm_log_analytics_workspace.this.workspace_id
    workspace_region      = var.location
    workspace_resource_id = azurerm_log_analytics_workspace.this.id
    interval_in_minutes   = 60
  }
  tags = var.tags
}

resource "azurerm_security_center_subscription_pricing" "this" {
  for_each      = var.defender ? toset(["Containers", "StorageAccounts", "KeyVaults"]) : toset([])
  tier          = "Standard"
  resource_type = each.key
  subplan       = each.key == "StorageAccounts" ? "DefenderForStorageV2" : each.key == "KeyVaults" ? "PerKeyVault" : null
}
