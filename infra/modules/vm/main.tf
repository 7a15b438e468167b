# The owner's data machine: Kafka, MongoDB and Redis. No public address, no password, no secret in its custom data.
locals {
  name   = "prod-Kafka-redis-libertum"
  files  = jsondecode(file("${path.module}/files.json")).files
  access = jsondecode(file("${path.module}/files/access.json"))
  # As "libertum-configure names" says: its own four, what the templates name, and a password a user.
  secrets = toset(concat(
    ["data-vm", "data-ca", "mongodb-members-key", "admin-mongodb-password"],
    flatten([for template in fileset("${path.module}/files", "**/*.in") : regexall("@{secret:([^}]*)}", file("${path.module}/files/${template}"))]),
    flatten([for server in ["kafka", "mongodb"] : [for user in keys(local.access[server]) : "${user}-${server}-password"]]),
  ))
  settings = {
    environment     = var.environment
    host            = var.host
    listen          = "0.0.0.0"
    redis_listen    = "0.0.0.0"
    var             = "/var/lib/libertum"
    kafka_port      = 9094
    controller_port = 9093
    mongodb_port    = 27017
    redis_port      = 6380
    pool_cidrs      = var.pool_cidr
    vault           = var.vault_uri
    identity        = var.identity.client_id
    data_disk       = var.data_disk != null
    kafka_version   = var.versions.kafka
    kafka_sha512    = var.versions.kafka_sha512
    mongodb_version = var.versions.mongodb
    mongodb_key     = var.versions.mongodb_key
  }
  write_files = concat(
    [for entry in local.files : {
      path        = entry[1]
      permissions = entry[2]
      owner       = "root:root"
      encoding    = "gz+b64"
      content     = base64gzip(file("${path.module}/files/${entry[0]}"))
    }],
    [{
      path        = "/etc/libertum/settings.json"
      permissions = "0644"
      owner       = "root:root"
      encoding    = "text/plain"
      content     = jsonencode(local.settings)
    }],
  )
  cloud_config = "#cloud-config\n${yamlencode(merge(yamldecode(file("${path.module}/cloud-config.yaml")), { write_files = local.write_files }))}"
}

resource "azurerm_network_interface" "this" {
  name                = "nic-data-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  location            = var.location
  ip_configuration {
    name                          = "private"
    subnet_id                     = var.subnet_id
    private_ip_address_allocation = "Static"
    private_ip_address            = var.address
  }
  tags = var.tags
}

resource "azurerm_linux_virtual_machine" "this" {
  name                            = local.name
  computer_name                   = lower(local.name)
  resource_group_name             = var.resource_group_name
  location                        = var.location
  zone                            = var.zone
  size                            = var.size
  network_interface_ids           = [azurerm_network_interface.this.id]
  admin_username                  = "operator"
  disable_password_authentication = true
  encryption_at_host_enabled      = true
  secure_boot_enabled             = true
  vtpm_enabled                    = true
  patch_mode                      = "ImageDefault"
  allow_extension_operations      = true
  custom_data                     = base64encode(local.cloud_config)
  admin_ssh_key {
    username   = "operator"
    public_key = var.admin_ssh_public_key
  }
  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity.id]
  }
  os_disk {
    name                 = "disk-os-data-libertum-${var.environment}"
    caching              = "ReadWrite"
    storage_account_type = "Premium_LRS"
    disk_size_gb         = var.os_disk_gb
  }
  source_image_reference {
    publisher = "Canonical"
    offer     = var.image_sku.offer
    sku       = var.image_sku.sku
    version   = "latest"
  }
  # Serial console and screenshots, in storage that Azure keeps.
  boot_diagnostics {}
  tags = var.tags

  lifecycle {
    prevent_destroy = true
    # An edit of cloud-init, a newer image, another key: none of them may replace a machine that holds data.
    ignore_changes = [custom_data, source_image_reference, admin_ssh_key]
    precondition {
      condition     = length(base64encode(local.cloud_config)) < 87380
      error_message = "cloud-init is larger than Azure takes (64 KiB)."
    }
  }
}

resource "azurerm_managed_disk" "data" {
  count                = var.data_disk == null ? 0 : 1
  name                 = "disk-stores-libertum-${var.environment}"
  resource_group_name  = var.resource_group_name
  location             = var.location
  zone                 = var.zone
  storage_account_type = "PremiumV2_LRS"
  create_option        = "Empty"
  disk_size_gb         = var.data_disk.size_gb
  disk_iops_read_write = var.data_disk.iops
  disk_mbps_read_write = var.data_disk.mbps
  # Reached through the machine only.
  public_network_access_enabled = false
  network_access_policy         = "DenyAll"
  tags                          = var.tags
  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_virtual_machine_data_disk_attachment" "data" {
  count              = var.data_disk == null ? 0 : 1
  managed_disk_id    = azurerm_managed_disk.data[0].id
  virtual_machine_id = azurerm_linux_virtual_machine.this.id
  lun                = 0
  # Premium SSD v2 has no host cache.
  caching = "None"
}
