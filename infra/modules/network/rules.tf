# Who may speak to whom. Every group ends with a rule that denies the rest, in both directions where it matters.
locals {
  pool_ports     = ["9094", "6380", "27017"]
  exporter_ports = ["9100", "9121"]

  inbound = {
    public = merge(
      {
        AllowProbes = { priority = 200, access = "Allow", from = ["AzureLoadBalancer"], to = ["*"], ports = ["*"], protocol = "*" }
      },
      var.public_load_balancer ? {} : {
        AllowWeb     = { priority = 100, access = "Allow", from = ["Internet"], to = [local.cidrs.public], ports = ["80", "443"], protocol = "Tcp" }
        AllowManager = { priority = 110, access = "Allow", from = ["GatewayManager"], to = ["*"], ports = ["65200-65535"], protocol = "Tcp" }
      },
    )
    data = {
      AllowPool      = { priority = 100, access = "Allow", from = [local.cidrs.aks], to = ["${local.data_address}/32"], ports = local.pool_ports, protocol = "Tcp" }
      AllowExporters = { priority = 110, access = "Allow", from = [local.cidrs.aks], to = ["${local.data_address}/32"], ports = local.exporter_ports, protocol = "Tcp" }
    }
    aks = merge(
      {
        # Pods' addresses are not hidden between nodes (overlay without encapsulation).
        AllowNodes  = { priority = 100, access = "Allow", from = [local.cidrs.aks, var.pod_cidr], to = [local.cidrs.aks, var.pod_cidr], ports = ["*"], protocol = "*" }
        AllowProbes = { priority = 200, access = "Allow", from = ["AzureLoadBalancer"], to = ["*"], ports = ["*"], protocol = "*" }
      },
      # Azure's load balancer keeps the sender's and its own address, so the group at the nodes sees the Internet. Only
      # what was sent to that one address passes; no node has a public address of its own.
      var.public_load_balancer ? {
        AllowEntrance = { priority = 110, access = "Allow", from = ["Internet"], to = [azurerm_public_ip.entrance.ip_address], ports = ["80", "443"], protocol = "Tcp" }
        } : {
        AllowGateway = { priority = 110, access = "Allow", from = [local.cidrs.public], to = [local.cidrs.ingress], ports = ["443"], protocol = "Tcp" }
      },
    )
    ingress = {
      AllowGateway = { priority = 100, access = "Allow", from = [local.cidrs.public], to = [local.cidrs.ingress], ports = ["443"], protocol = "Tcp" }
      AllowProbes  = { priority = 200, access = "Allow", from = ["AzureLoadBalancer"], to = ["*"], ports = ["*"], protocol = "*" }
    }
    privatelink = {
      AllowInside = { priority = 100, access = "Allow", from = [local.cidrs.aks, local.cidrs.data], to = [local.cidrs.privatelink], ports = ["443"], protocol = "Tcp" }
    }
  }
  outbound = {
    public = {}
    # Packages, Key Vault and Azure's own services; nothing else, and nothing to the nodes.
    data = {
      AllowPrivatelink = { priority = 100, access = "Allow", from = ["*"], to = [local.cidrs.privatelink], ports = ["443"], protocol = "Tcp" }
      AllowWeb         = { priority = 110, access = "Allow", from = ["*"], to = ["Internet"], ports = ["80", "443"], protocol = "Tcp" }
      DenyRest         = { priority = 4096, access = "Deny", from = ["*"], to = ["*"], ports = ["*"], protocol = "*" }
    }
    aks         = {}
    ingress     = {}
    privatelink = { DenyRest = { priority = 4096, access = "Deny", from = ["*"], to = ["*"], ports = ["*"], protocol = "*" } }
  }
  deny_rest = { DenyRest = { priority = 4096, access = "Deny", from = ["*"], to = ["*"], ports = ["*"], protocol = "*" } }

  rules = merge(
    merge([for subnet, rules in local.inbound : {
      for name, rule in merge(rules, local.deny_rest) : "${subnet}-in-${name}" => merge(rule, { subnet = subnet, name = "${name}Inbound", direction = "Inbound" })
    }]...),
    merge([for subnet, rules in local.outbound : {
      for name, rule in rules : "${subnet}-out-${name}" => merge(rule, { subnet = subnet, name = "${name}Outbound", direction = "Outbound" })
    }]...),
  )
}

resource "azurerm_network_security_group" "this" {
  for_each            = local.subnets
  name                = "nsg-${each.key}-libertum-${var.name}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_network_security_rule" "this" {
  for_each                     = local.rules
  name                         = each.value.name
  resource_group_name          = var.resource_group_name
  network_security_group_name  = azurerm_network_security_group.this[each.value.subnet].name
  priority                     = each.value.priority
  direction                    = each.value.direction
  access                       = each.value.access
  protocol                     = each.value.protocol
  source_port_range            = "*"
  source_address_prefix        = length(each.value.from) == 1 ? each.value.from[0] : null
  source_address_prefixes      = length(each.value.from) == 1 ? null : each.value.from
  destination_address_prefix   = length(each.value.to) == 1 ? each.value.to[0] : null
  destination_address_prefixes = length(each.value.to) == 1 ? null : each.value.to
  destination_port_range       = length(each.value.ports) == 1 ? each.value.ports[0] : null
  destination_port_ranges      = length(each.value.ports) == 1 ? null : each.value.ports
}

resource "azurerm_subnet_network_security_group_association" "this" {
  for_each                  = local.subnets
  subnet_id                 = azurerm_subnet.this[each.key].id
  network_security_group_id = azurerm_network_security_group.this[each.key].id
  # A group without its rules would let the whole network in.
  depends_on = [azurerm_network_security_rule.this]
}
