# Optional: every packet that leaves the nodes and the data machine is read by an Azure Firewall.
resource "azurerm_subnet" "firewall" {
  count                           = var.firewall ? 1 : 0
  name                            = "AzureFirewallSubnet"
  resource_group_name             = var.resource_group_name
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [local.cidrs.firewall]
  default_outbound_access_enabled = false
}

resource "azurerm_public_ip" "firewall" {
  count               = var.firewall ? 1 : 0
  name                = "pip-firewall-libertum-${var.name}"
  resource_group_name = var.resource_group_name
  location            = var.location
  allocation_method   = "Static"
  sku                 = "Standard"
  zones               = ["1", "2", "3"]
  tags                = var.tags
}

resource "azurerm_firewall_policy" "this" {
  count                    = var.firewall ? 1 : 0
  name                     = "afwp-libertum-${var.name}"
  resource_group_name      = var.resource_group_name
  location                 = var.location
  sku                      = "Standard"
  threat_intelligence_mode = "Deny"
  dns {
    proxy_enabled = true
  }
  tags = var.tags
}

resource "azurerm_firewall_policy_rule_collection_group" "this" {
  count              = var.firewall ? 1 : 0
  name               = "libertum"
  firewall_policy_id = azurerm_firewall_policy.this[0].id
  priority           = 200
  application_rule_collection {
    name     = "allow"
    priority = 200
    action   = "Allow"
    rule {
      name                  = "aks"
      source_addresses      = [local.cidrs.aks]
      destination_fqdn_tags = ["AzureKubernetesService"]
      protocols {
        type = "Https"
        port = 443
      }
    }
    rule {
      name              = "packages"
      source_addresses  = [local.cidrs.data]
      destination_fqdns = ["azure.archive.ubuntu.com", "security.ubuntu.com", "repo.mongodb.org", "pgp.mongodb.com", "archive.apache.org"]
      protocols {
        type = "Http"
        port = 80
      }
      protocols {
        type = "Https"
        port = 443
      }
    }
    rule {
      name              = "hosts"
      source_addresses  = [local.cidrs.aks]
      destination_fqdns = concat(["login.microsoftonline.com", "database.clamav.net"], var.firewall_allowed_hosts)
      protocols {
        type = "Https"
        port = 443
      }
    }
  }
}

resource "azurerm_firewall" "this" {
  count               = var.firewall ? 1 : 0
  name                = "afw-libertum-${var.name}"
  resource_group_name = var.resource_group_name
  location            = var.location
  sku_name            = "AZFW_VNet"
  sku_tier            = "Standard"
  firewall_policy_id  = azurerm_firewall_policy.this[0].id
  zones               = ["1", "2", "3"]
  ip_configuration {
    name                 = "public"
    subnet_id            = azurerm_subnet.firewall[0].id
    public_ip_address_id = azurerm_public_ip.firewall[0].id
  }
  tags = var.tags
}

resource "azurerm_route_table" "out" {
  count                         = var.firewall ? 1 : 0
  name                          = "rt-out-libertum-${var.name}"
  resource_group_name           = var.resource_group_name
  location                      = var.location
  bgp_route_propagation_enabled = false
  route {
    name                   = "out"
    address_prefix         = "0.0.0.0/0"
    next_hop_type          = "VirtualAppliance"
    next_hop_in_ip_address = azurerm_firewall.this[0].ip_configuration[0].private_ip_address
  }
  tags = var.tags
}

resource "azurerm_subnet_route_table_association" "out" {
  for_each       = local.routed
  subnet_id      = azurerm_subnet.this[each.key].id
  route_table_id = azurerm_route_table.out[0].id
}
