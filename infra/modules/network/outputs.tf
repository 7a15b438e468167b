output "id" {
  value = azurerm_virtual_network.this.id
}

output "subnet_ids" {
  description = "By public, data, aks, ingress, privatelink."
  # Whoever is put into a subnet wants its way out and its rules to be there first.
  value = { for name, subnet in azurerm_subnet.this : name => subnet.id }
  depends_on = [
    azurerm_subnet_nat_gateway_association.this,
    azurerm_nat_gateway_public_ip_association.this,
    azurerm_subnet_network_security_group_association.this,
    azurerm_subnet_route_table_association.out,
  ]
}

output "cidrs" {
  value = local.cidrs
}

output "data_address" {
  value = local.data_address
}

output "data_host" {
  value = "data.${azurerm_private_dns_zone.inside.name}"
}

output "entrance" {
  description = "The public address: id, name, address."
  value = {
    id      = azurerm_public_ip.entrance.id
    name    = azurerm_public_ip.entrance.name
    address = azurerm_public_ip.entrance.ip_address
  }
}

output "way_out_address" {
  description = "What partners see when the pool calls them."
  value       = var.firewall ? azurerm_public_ip.firewall[0].ip_address : azurerm_public_ip.nat.ip_address
}

output "private_dns_zone_ids" {
  value = { for name, zone in azurerm_private_dns_zone.privatelink : name => zone.id }
}

output "route_table_id" {
  value = var.firewall ? azurerm_route_table.out[0].id : null
}
