# Hardened only: the world meets an application gateway with a web application firewall; the cluster's own load balancer is
# internal. In starter the cluster's public load balancer stands here instead.
resource "azurerm_user_assigned_identity" "this" {
  name                = "id-gateway-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_role_assignment" "certificate" {
  scope                            = "${var.vault_id}/secrets/${basename(var.certificate_secret_id)}"
  role_definition_name             = "Key Vault Secrets User"
  principal_id                     = azurerm_user_assigned_identity.this.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_web_application_firewall_policy" "this" {
  name                = "waf-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  location            = var.location
  policy_settings {
    enabled = true
    mode    = "Prevention"
    # Documents are bytes of any kind: the intake reads them with hard limits, the firewall reads the rest of the request.
    request_body_check               = false
    file_upload_limit_in_mb          = var.max_body_mb
    max_request_body_size_in_kb      = 128
    request_body_inspect_limit_in_kb = 128
  }
  managed_rules {
    managed_rule_set {
      type    = "Microsoft_DefaultRuleSet"
      version = "2.1"
    }
    managed_rule_set {
      type    = "Microsoft_BotManagerRuleSet"
      version = "1.0"
    }
  }
  tags = var.tags
}

resource "azurerm_application_gateway" "this" {
  name                = "agw-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  location            = var.location
  zones               = var.zones
  enable_http2        = true
  firewall_policy_id  = azurerm_web_application_firewall_policy.this.id
  sku {
    name = "WAF_v2"
    tier = "WAF_v2"
  }
  autoscale_configuration {
    min_capacity = 1
    max_capacity = 5
  }
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this.id]
  }
  ssl_policy {
    policy_type = "Predefined"
    policy_name = "AppGwSslPolicy20220101S"
  }
  gateway_ip_configuration {
    name      = "public"
    subnet_id = var.subnet_id
  }
  frontend_ip_configuration {
    name                 = "entrance"
    public_ip_address_id = var.public_ip_id
  }
  frontend_port {
    name = "http"
    port = 80
  }
  frontend_port {
    name = "https"
    port = 443
  }
  ssl_certificate {
    name                = "host"
    key_vault_secret_id = var.certificate_secret_id
  }
  http_listener {
    name                           = "http"
    frontend_ip_configuration_name = "entrance"
    frontend_port_name             = "http"
    protocol                       = "Http"
    host_name                      = var.host
  }
  http_listener {
    name                           = "https"
    frontend_ip_configuration_name = "entrance"
    frontend_port_name             = "https"
    protocol                       = "Https"
    host_name                      = var.host
    ssl_certificate_name           = "host"
  }
  backend_address_pool {
    name         = "cluster"
    ip_addresses = [var.backend_address]
  }
  backend_http_settings {
    name                  = "https"
    port                  = 443
    protocol              = "Https"
    host_name             = var.host
    cookie_based_affinity = "Disabled"
    # An upload may take as long as the intake gives it.
    request_timeout = 600
    probe_name      = "door"
  }
  probe {
    name                = "door"
    protocol            = "Https"
    host                = var.host
    path                = "/openapi.json"
    interval            = 15
    timeout             = 10
    unhealthy_threshold = 3
  }
  redirect_configuration {
    name                 = "to-https"
    redirect_type        = "Permanent"
    target_listener_name = "https"
    include_path         = true
    include_query_string = true
  }
  request_routing_rule {
    name                        = "http"
    priority                    = 20
    rule_type                   = "Basic"
    http_listener_name          = "http"
    redirect_configuration_name = "to-https"
  }
  request_routing_rule {
    name                       = "https"
    priority                   = 10
    rule_type                  = "Basic"
    http_listener_name         = "https"
    backend_address_pool_name  = "cluster"
    backend_http_settings_name = "https"
  }
  tags       = var.tags
  depends_on = [azurerm_role_assignment.certificate]
}
