# terraform init -backend-config=backend.hcl; nobody needs a key of the account.
resource_group_name  = "rg-libertum-state"
storage_account_name = "STATE-ACCOUNT"
container_name       = "staging"
