output "id" {
  value = azurerm_linux_virtual_machine.this.id
}

output "name" {
  value = azurerm_linux_virtual_machine.this.name
}

output "cloud_config" {
  description = "What cloud-init is given; holds no secret."
  value       = local.cloud_config
}

output "secrets" {
  description = "The names of the secrets that libertum-configure fetches."
  value       = local.secrets
}
