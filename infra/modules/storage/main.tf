# Three accounts: documents, backups and logs, so that whoever may write the one has no right in the other.
locals {
  accounts = {
    documents = { name = "stlibertum${var.environment}", containers = ["inbox", "documents"], replication = var.replication }
    backups   = { name = "stlibertum${var.environment}bkp", containers = ["backups", "backup-control"], replication = var.replication }
    # Loki's: its own retention deletes, and logs are not worth a second region.
    logs = { name = "stlibertum${var.environment}log", containers = ["loki-chunks", "loki-ruler"], replication = "LRS" }
  }
  containers = merge([for account, it in local.accounts : { for name in it.containers : name => account }]...)
}

resource "azurerm_storage_account" "this" {
  for_each                          = local.accounts
  name                              = each.value.name
  resource_group_name               = var.resource_group_name
  location                          = var.location
  account_kind                      = "StorageV2"
  account_tier                      = "Standard"
  account_replication_type          = each.value.replication
  access_tier                       = "Hot"
  min_tls_version                   = "TLS1_2"
  https_traffic_only_enabled        = true
  shared_access_key_enabled         = false
  default_to_oauth_authentication   = true
  allow_nested_items_to_be_public   = false
  cross_tenant_replication_enabled  = false
  public_network_access_enabled     = false
  infrastructure_encryption_enabled = true
  local_user_enabled                = false
  sftp_enabled                      = false
  allowed_copy_scope                = "AAD"
  blob_properties {
    versioning_enabled  = true
    change_feed_enabled = true
    delete_retention_policy {
      days = var.soft_delete_days
    }
    container_delete_retention_policy {
      days = var.soft_delete_days
    }
  }
  # Nobody signs links: there is no key to sign with, and no identity of the pool's may. One that is signed all the same lasts two hours.
  sas_policy {
    expiration_period = "00.02:00:00"
    expiration_action = "Block"
  }
  network_rules {
    default_action = "Deny"
    bypass         = ["AzureServices"]
  }
  tags = var.tags
  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_storage_container" "this" {
  for_each              = local.containers
  name                  = each.key
  storage_account_id    = azurerm_storage_account.this[each.value].id
  container_access_type = "private"
}

# Nobody deletes or changes a backup before its days are over, not even an owner once the policy is locked. Locking cannot be
# undone, so a person does it (runbook first-installation), not this code.
resource "azurerm_storage_container_immutability_policy" "backups" {
  storage_container_resource_manager_id = azurerm_storage_container.this["backups"].id
  immutability_period_in_days           = var.backups_days.immutable
  locked                                = false
  protected_append_writes_all_enabled   = false
  lifecycle {
    # Locked by hand: stays locked.
    ignore_changes = [locked]
  }
}

resource "azurerm_storage_management_policy" "documents" {
  storage_account_id = azurerm_storage_account.this["documents"].id
  rule {
    name    = "inbox"
    enabled = true
    filters {
      prefix_match = ["inbox/"]
      blob_types   = ["blockBlob"]
    }
    actions {
      base_blob {
        delete_after_days_since_creation_greater_than = var.inbox_days
      }
      version {
        delete_after_days_since_creation = var.soft_delete_days
      }
    }
  }
  rule {
    name    = "documents"
    enabled = true
    filters {
      prefix_match = ["documents/"]
      blob_types   = ["blockBlob"]
    }
    actions {
      base_blob {
        tier_to_cool_after_days_since_creation_greater_than    = var.documents_days.cool
        tier_to_archive_after_days_since_creation_greater_than = var.documents_days.archive
      }
    }
  }
}

resource "azurerm_storage_management_policy" "backups" {
  storage_account_id = azurerm_storage_account.this["backups"].id
  rule {
    name    = "backups"
    enabled = true
    filters {
      prefix_match = ["backups/"]
      blob_types   = ["blockBlob"]
    }
    actions {
      base_blob {
        tier_to_cool_after_days_since_creation_greater_than    = var.backups_days.cool
        tier_to_archive_after_days_since_creation_greater_than = var.backups_days.archive
        delete_after_days_since_creation_greater_than          = var.backups_days.delete
      }
      version {
        delete_after_days_since_creation = var.backups_days.immutable + var.soft_delete_days
      }
    }
  }
}

resource "azurerm_private_endpoint" "this" {
  for_each            = local.accounts
  name                = "pe-${each.key}-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  location            = var.location
  subnet_id           = var.subnet_id
  private_service_connection {
    name                           = each.key
    private_connection_resource_id = azurerm_storage_account.this[each.key].id
    subresource_names              = ["blob"]
    is_manual_connection           = false
  }
  private_dns_zone_group {
    name                 = each.key
    private_dns_zone_ids = [var.private_dns_zone_id]
  }
  tags = var.tags
}
