# An identity a process, each with the rights it needs and no other. No passwords: a pod's or a workflow's own token is
# exchanged for Azure's.
locals {
  # service account in the namespace -> what it may do
  pods = {
    intake    = { namespace = "libertum", account = "intake" }
    ingestion = { namespace = "libertum", account = "ingestion" }
    valuation = { namespace = "libertum", account = "valuation" }
    minting   = { namespace = "libertum", account = "minting" }
    backup    = { namespace = "libertum", account = "backup" }
    prepare   = { namespace = "libertum", account = "prepare" }
    secrets   = { namespace = "libertum", account = "secrets" }
    keda      = { namespace = "kube-system", account = "keda-operator" }
    loki      = { namespace = "monitoring", account = "loki" }
  }
  # environment of GitHub -> identity: who plans may not apply, who pushes images may do neither.
  workflows = {
    push  = "${var.environment}-images"
    plan  = "${var.environment}-plan"
    apply = var.environment
  }
  rights = merge(
    {
      "intake-inbox"        = { who = "intake", scope = var.container_ids["inbox"], role = "Storage Blob Data Contributor" }
      "ingestion-inbox"     = { who = "ingestion", scope = var.container_ids["inbox"], role = "Storage Blob Data Reader" }
      "ingestion-documents" = { who = "ingestion", scope = var.container_ids["documents"], role = "Storage Blob Data Contributor" }
      "backup-backups"      = { who = "backup", scope = var.container_ids["backups"], role = "Storage Blob Data Contributor" }
      "backup-control"      = { who = "backup", scope = var.container_ids["backup-control"], role = "Storage Blob Data Contributor" }
      "loki-chunks"         = { who = "loki", scope = var.container_ids["loki-chunks"], role = "Storage Blob Data Contributor" }
      "loki-ruler"          = { who = "loki", scope = var.container_ids["loki-ruler"], role = "Storage Blob Data Contributor" }
      "prepare-inbox"       = { who = "prepare", scope = var.container_ids["inbox"], role = "Storage Blob Data Contributor" }
      "prepare-documents"   = { who = "prepare", scope = var.container_ids["documents"], role = "Storage Blob Data Contributor" }
      "prepare-backups"     = { who = "prepare", scope = var.container_ids["backups"], role = "Storage Blob Data Contributor" }
      "prepare-control"     = { who = "prepare", scope = var.container_ids["backup-control"], role = "Storage Blob Data Contributor" }
    },
    # The pods' secrets come through one account (secrets), which copies them into the namespace; KEDA reads its own.
    { for name in local.pod_secrets : "secrets-${name}" => { who = "secrets", scope = "${var.vault_id}/secrets/${name}", role = "Key Vault Secrets User" } },
    { for name in ["keda-kafka-username", "keda-kafka-password", "data-ca"] : "keda-${name}" => { who = "keda", scope = "${var.vault_id}/secrets/${name}", role = "Key Vault Secrets User" } },
  )
  # Whoever applies may give rights, but not those that give rights: Owner, User Access Administrator, and his own.
  privileges    = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635, 18d7d88d-d35e-4fb5-a5c3-7773c20a72d9, f58310d9-a9f6-439a-9e8d-f62e7b41a168"
  no_privileges = join(" AND ", [for verb, side in { write = "Request", delete = "Resource" } : "((!(ActionMatches{'Microsoft.Authorization/roleAssignments/${verb}'})) OR (@${side}[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAllValues:GuidNotEquals {${local.privileges}}))"])
  workers       = ["intake", "ingestion", "valuation", "minting", "backup", "prepare", "backup-request"]
  pod_secrets = concat(
    ["data-ca", "intake-tls", "minting-mnemonic", "minting-evm-rpc-urls", "prepare-evm-rpc-urls"],
    flatten([for worker in local.workers : ["${worker}-kafka-username", "${worker}-kafka-password"]]),
    [for worker in local.workers : "${worker}-mongodb-uri" if worker != "backup-request"],
    [for worker in local.workers : "${worker}-redis-url" if worker != "backup-request"],
  )
}

resource "azurerm_user_assigned_identity" "pod" {
  for_each            = local.pods
  name                = "id-${each.key}-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_federated_identity_credential" "pod" {
  for_each            = local.pods
  name                = "kubernetes"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.pod[each.key].id
  issuer              = var.oidc_issuer_url
  subject             = "system:serviceaccount:${each.value.namespace}:${each.value.account}"
  audience            = ["api://AzureADTokenExchange"]
}

resource "azurerm_role_assignment" "pod" {
  for_each                         = local.rights
  scope                            = each.value.scope
  role_definition_name             = each.value.role
  principal_id                     = azurerm_user_assigned_identity.pod[each.value.who].principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_role_assignment" "pull" {
  scope                            = var.registry_id
  role_definition_name             = "AcrPull"
  principal_id                     = var.kubelet_principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

# Another environment's workflow, which takes images on from here (staging's to production).
resource "azurerm_role_assignment" "read_images" {
  for_each                         = var.registry_readers
  scope                            = var.registry_id
  role_definition_name             = "AcrPull"
  principal_id                     = each.value
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

# The data machine reads what its servers need, and neither the minting accounts nor the nodes of the chain.
resource "azurerm_role_assignment" "vm" {
  for_each                         = var.vm_secrets
  scope                            = "${var.vault_id}/secrets/${each.key}"
  role_definition_name             = "Key Vault Secrets User"
  principal_id                     = var.vm_principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_user_assigned_identity" "workflow" {
  for_each            = local.workflows
  name                = "id-github-${each.key}-libertum-${var.environment}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_federated_identity_credential" "workflow" {
  for_each            = local.workflows
  name                = "github"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.workflow[each.key].id
  issuer              = "https://token.actions.githubusercontent.com"
  subject             = "repo:${var.github_repository}:environment:${each.value}"
  audience            = ["api://AzureADTokenExchange"]
}

resource "azurerm_role_assignment" "workflow" {
  for_each = {
    push-images  = { who = "push", scope = var.registry_id, role = "AcrPush" }
    purge-images = { who = "push", scope = var.registry_id, role = "AcrDelete" }
    plan-read    = { who = "plan", scope = var.resource_group_id, role = "Reader" }
    # azurerm reads the way into a cluster with the cluster. It signs nobody on: local accounts are off, and rights inside are Entra's.
    plan-cluster = { who = "plan", scope = var.cluster_id, role = "Azure Kubernetes Service Cluster User Role" }
    plan-state   = { who = "plan", scope = var.state_container_id, role = "Storage Blob Data Reader" }
    apply-state  = { who = "apply", scope = var.state_container_id, role = "Storage Blob Data Contributor" }
    # In this resource group alone: what it holds, and the rights that this file gives.
    apply-group  = { who = "apply", scope = var.resource_group_id, role = "Contributor" }
    apply-rights = { who = "apply", scope = var.resource_group_id, role = "Role Based Access Control Administrator", condition = local.no_privileges }
  }
  scope                            = each.value.scope
  role_definition_name             = each.value.role
  principal_id                     = azurerm_user_assigned_identity.workflow[each.value.who].principal_id
  principal_type                   = "ServicePrincipal"
  condition                        = lookup(each.value, "condition", null)
  condition_version                = contains(keys(each.value), "condition") ? "2.0" : null
  skip_service_principal_aad_check = true
}
