# Everything that is this environment's own. Values in capitals are to be replaced (runbook first-installation), and a plan
# refuses the Kafka checksum as it stands here.
settings = {
  location              = "westeurope"
  size                  = "starter"
  cidr                  = "10.20.0.0/16"
  host                  = "intake.production.libertum.example"
  github_repository     = "OWNER/NAME"
  state_container_id    = "/subscriptions/SUBSCRIPTION/resourceGroups/rg-libertum-state/providers/Microsoft.Storage/storageAccounts/STATE-ACCOUNT/blobServices/default/containers/production"
  admin_group_ids       = ["ENTRA-GROUP-ID"]
  api_authorized_ranges = ["203.0.113.0/24"]
  mail                  = ["operations@libertum.example"]
  budget                = { amount = 900, start = "2026-12-01T00:00:00Z" }
  vm = {
    admin_ssh_public_key = "SSH-PUBLIC-KEY"
    kafka_version        = "4.4.0"
    kafka_sha512         = "SHA512-OF-THE-ARCHIVE"
    mongodb_version      = "8.0.15"
  }
}
