output "id" {
  value = azurerm_key_vault.this.id
}

output "name" {
  value = azurerm_key_vault.this.name
}

output "uri" {
  value = trimsuffix(azurerm_key_vault.this.vault_uri, "/")
}
