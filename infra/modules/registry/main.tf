# The images. Tags are full commit hashes and are never moved; nobody pushes but the image workflow, by its identity.
resource "azurerm_container_registry" "this" {
  name                          = "crlibertum${var.environment}"
  resource_group_name           = var.resource_group_name
  location                      = var.location
  sku                           = var.private ? "Premium" : "Standard"
  admin_enabled                 = false
  anonymous_pull_enabled        = false
  public_network_access_enabled = !var.private
  network_rule_bypass_option    = "AzureServices"
  data_endpoint_enabled         = var.private
  zone_redundancy_enabled       = var.private
  retention_policy_in_days      = var.private ? var.keep_untagged_days : null
  tags                          = var.tags
}

resource "azurerm_private_endpoint" "this" {
  count               = var.private ? 1 : 0
  name                = "pe-registry-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  location            = var.location
  subnet_id           = var.subnet_id
  private_service_connection {
    name                           = "registry"
    private_connection_resource_id = azurerm_container_registry.this.id
    subresource_names              = ["registry"]
    is_manual_connection           = false
  }
  private_dns_zone_group {
    name                 = "registry"
    private_dns_zone_ids = [var.private_dns_zone_id]
  }
  tags = var.tags
}

# What retention_policy_in_days does in Premium, for Standard: untagged images only, never a tag.
resource "azurerm_container_registry_task" "purge" {
  count                 = var.private ? 0 : 1
  name                  = "purge-untagged"
  container_registry_id = azurerm_container_registry.this.id
  platform {
    os = "Linux"
  }
  encoded_step {
    task_content = base64encode(yamlencode({
      version = "v1.1.0"
      steps = [{
        cmd                             = "acr purge --filter '.*:^$' --untagged --ago ${var.keep_untagged_days}d"
        disableWorkingDirectoryOverride = true
        timeout                         = 3600
      }]
    }))
  }
  agent_setting {
    cpu = 2
  }
  timer_trigger {
    name     = "weekly"
    schedule = "0 4 * * Sun"
  }
  tags = var.tags
}
