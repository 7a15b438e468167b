# One network, cut into subnets. Nothing has a way out by default: what leaves goes through the NAT gateway (or the
# firewall), by one address that partners can know.
resource "azurerm_virtual_network" "this" {
  name                = "vnet-libertum-${var.name}"
  resource_group_name = var.resource_group_name
  location            = var.location
  address_space       = [var.cidr]
  tags                = var.tags
}

locals {
  # 10.20.0.0/16 becomes: public 10.20.0.0/24, data 10.20.2.0/24, aks 10.20.4.0/22, ingress 10.20.8.0/24, privatelink 10.20.16.0/27.
  cidrs = {
    public      = cidrsubnet(var.cidr, 8, 0)
    data        = cidrsubnet(var.cidr, 8, 2)
    aks         = cidrsubnet(var.cidr, 6, 1)
    ingress     = cidrsubnet(var.cidr, 8, 8)
    privatelink = cidrsubnet(var.cidr, 11, 128)
    gateway     = cidrsubnet(var.cidr, 11, 136)
    firewall    = cidrsubnet(var.cidr, 10, 72)
  }
  subnets      = toset(["public", "data", "aks", "ingress", "privatelink"])
  private      = toset(["data", "aks", "ingress", "privatelink"])
  routed       = var.firewall ? toset(["data", "aks"]) : toset([])
  behind_nat   = var.firewall ? toset(["ingress", "privatelink"]) : local.private
  data_address = cidrhost(local.cidrs.data, 4)
}

resource "azurerm_subnet" "this" {
  for_each                          = local.subnets
  name                              = "snet-${each.key}"
  resource_group_name               = var.resource_group_name
  virtual_network_name              = azurerm_virtual_network.this.name
  address_prefixes                  = [local.cidrs[each.key]]
  default_outbound_access_enabled   = false
  private_endpoint_network_policies = "Enabled"
}

resource "azurerm_subnet" "gateway" {
  count                           = var.gateway_subnet ? 1 : 0
  name                            = "GatewaySubnet"
  resource_group_name             = var.resource_group_name
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [local.cidrs.gateway]
  default_outbound_access_enabled = false
}

resource "azurerm_virtual_network_peering" "this" {
  for_each                     = var.peered_network_ids
  name                         = "peer-${each.key}"
  resource_group_name          = var.resource_group_name
  virtual_network_name         = azurerm_virtual_network.this.name
  remote_virtual_network_id    = each.value
  allow_virtual_network_access = true
  allow_forwarded_traffic      = false
  allow_gateway_transit        = var.gateway_subnet
}

# The way out: one static address for everything.
resource "azurerm_public_ip" "nat" {
  name                = "pip-nat-libertum-${var.name}"
  resource_group_name = var.resource_group_name
  location            = var.location
  allocation_method   = "Static"
  # StandardV2 is zone-redundant; the zonal Standard would go down with its zone.
  sku  = "StandardV2"
  tags = var.tags
}

resource "azurerm_nat_gateway" "this" {
  name                    = "ng-libertum-${var.name}"
  resource_group_name     = var.resource_group_name
  location                = var.location
  sku_name                = "StandardV2"
  idle_timeout_in_minutes = 10
  tags                    = var.tags
}

resource "azurerm_nat_gateway_public_ip_association" "this" {
  nat_gateway_id       = azurerm_nat_gateway.this.id
  public_ip_address_id = azurerm_public_ip.nat.id
}

resource "azurerm_subnet_nat_gateway_association" "this" {
  for_each       = local.behind_nat
  subnet_id      = azurerm_subnet.this[each.key].id
  nat_gateway_id = azurerm_nat_gateway.this.id
}

# The address that the world knows: of the cluster's load balancer (starter) or of the application gateway (hardened).
resource "azurerm_public_ip" "entrance" {
  name                = "pip-entrance-libertum-${var.name}"
  resource_group_name = var.resource_group_name
  location            = var.location
  allocation_method   = "Static"
  sku                 = "Standard"
  zones               = ["1", "2", "3"]
  tags                = var.tags
}

# Names inside: the data machine, and the private addresses of Azure's services.
resource "azurerm_private_dns_zone" "inside" {
  name                = "libertum.internal"
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_private_dns_a_record" "data" {
  name                = "data"
  zone_name           = azurerm_private_dns_zone.inside.name
  resource_group_name = var.resource_group_name
  ttl                 = 60
  records             = [local.data_address]
  tags                = var.tags
}

resource "azurerm_private_dns_zone" "privatelink" {
  for_each = {
    blob     = "privatelink.blob.core.windows.net"
    vault    = "privatelink.vaultcore.azure.net"
    registry = "privatelink.azurecr.io"
  }
  name                = each.value
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  for_each = merge(
    { inside = azurerm_private_dns_zone.inside.name },
    { for name, zone in azurerm_private_dns_zone.privatelink : name => zone.name },
  )
  name                  = "link-${each.key}"
  resource_group_name   = var.resource_group_name
  private_dns_zone_name = each.value
  virtual_network_id    = azurerm_virtual_network.this.id
  tags                  = var.tags
}
