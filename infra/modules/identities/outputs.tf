output "pod_client_ids" {
  value = { for name, identity in azurerm_user_assigned_identity.pod : name => identity.client_id }
}

output "images_pusher" {
  value = azurerm_user_assigned_identity.workflow["push"].principal_id
}

output "workflow_client_ids" {
  value = { for name, identity in azurerm_user_assigned_identity.workflow : name => identity.client_id }
}
