output "account_ids" {
  description = "documents, backups"
  value       = { for name, account in azurerm_storage_account.this : name => account.id }
}

output "container_ids" {
  description = "inbox, documents, backups, backup-control"
  value       = { for name, container in azurerm_storage_container.this : name => container.id }
}

output "endpoints" {
  value = { for name, account in azurerm_storage_account.this : name => trimsuffix(account.primary_blob_endpoint, "/") }
}
