# The environment staging: what it is made of is in settings.auto.tfvars, what is made of it in modules/environment.
terraform {
  required_version = ">= 1.9, < 2.0"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.55"
    }
  }
  backend "azurerm" {
    use_azuread_auth = true
    key              = "staging.tfstate"
  }
}

provider "azurerm" {
  storage_use_azuread = true
  # The workflows' identities have no right to: a person has done it, once (runbook first-installation).
  resource_provider_registrations = "none"
  features {
    # The accounts have private endpoints alone, and whoever plans may be outside the network.
    storage {
      data_plane_available = false
    }
    key_vault {
      purge_soft_delete_on_destroy = false
    }
    resource_group {
      prevent_deletion_if_contains_resources = true
    }
  }
}

module "staging" {
  source                 = "../../modules/environment"
  environment            = "staging"
  location               = var.settings.location
  size                   = var.settings.size
  choices                = var.settings.choices
  cidr                   = var.settings.cidr
  base_nodes             = var.settings.base_nodes
  job_nodes              = var.settings.job_nodes
  api_authorized_ranges  = var.settings.api_authorized_ranges
  admin_group_ids        = var.settings.admin_group_ids
  vault_admin_addresses  = var.vault_admin_addresses
  firewall_allowed_hosts = var.settings.firewall_allowed_hosts
  gateway_subnet         = var.settings.gateway_subnet
  peered_network_ids     = var.settings.peered_network_ids
  network_watcher        = var.settings.network_watcher
  vm                     = var.settings.vm
  storage_replication    = var.settings.storage_replication
  host                   = var.settings.host
  github_repository      = var.settings.github_repository
  registry_readers       = var.settings.registry_readers
  state_container_id     = var.settings.state_container_id
  mail                   = var.settings.mail
  budget                 = var.settings.budget
}

output "staging" {
  value = module.staging
}
