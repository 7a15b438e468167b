output "account_ids" {
  description = "documents, backups, logs"
  value       = { for name, account in azurerm_storage_account.this : name => account.id }
}

output "container_ids" {
  description = "inbox, documents, backups, backup-control, loki-chunks, loki-ruler"
  value       = { for name, container in azurerm_storage_container.this : name => container.id }
}

output "endpoints" {
  value = { for name, account in azurerm_storage_account.this : name => trimsuffix(account.primary_blob_endpoint, "/") }
}
