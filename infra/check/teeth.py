"""A change for every policy that it must find; a policy that finds nothing has no teeth."""
import copy

import policies
from policies import EVERY, hardened_has_its_parts, starter_is_cheap


def first(plan, kind, index=None, name=None):
    for resource in plan.all(kind):
        if (index is None or resource.get("index") == index) and (name is None or resource["name"] == name):
            return resource
    raise AssertionError(f"no azurerm_{kind} {index or name}")


def rule(plan, subnet, name):
    return first(plan, "network_security_rule", f"{subnet}-in-{name}")["values"]


def drop(plan, kind, index=None):
    plan.resources.remove(first(plan, kind, index))


def internet_to_data(plan):
    rule(plan, "data", "AllowPool").update(source_address_prefix="Internet")


def deny_gone(plan):
    drop(plan, "network_security_rule", "data-in-DenyRest")


def public_takes_ssh(plan):
    rule(plan, "public", "AllowProbes").update(source_address_prefix="Internet", destination_port_range="22")


def data_takes_the_network(plan):
    rule(plan, "data", "AllowPool").update(source_address_prefix="VirtualNetwork")


def aks_leaves_by_nothing(plan):
    drop(plan, "subnet_nat_gateway_association", "aks")


def pods_on_the_network(plan):
    plan.one("kubernetes_cluster")["network_profile"][0]["pod_cidr"] = "10.20.128.0/17"


def vm_grows(plan):
    plan.one("linux_virtual_machine")["size"] = "Standard_B2s"


def local_accounts(plan):
    plan.one("kubernetes_cluster")["local_account_disabled"] = False


def a_warm_node(plan):
    first(plan, "kubernetes_cluster_node_pool", name="jobs")["values"]["min_count"] = 1


def another_label(plan):
    first(plan, "kubernetes_cluster_node_pool", name="jobs")["values"]["node_labels"] = {"pool": "jobs"}


def another_vault(plan):
    plan.one("key_vault")["name"] = "kv-other"


def zone_redundant_backups(plan):
    first(plan, "storage_account", "backups")["values"]["account_replication_type"] = "GZRS"


def lock_beyond_deletion(plan):
    plan.one("storage_container_immutability_policy")["immutability_period_in_days"] = 400


def inbox_of_a_week(plan):
    rules = first(plan, "storage_management_policy", name="documents")["values"]["rule"]
    rules[0]["actions"][0]["base_blob"][0]["delete_after_days_since_creation_greater_than"] = 7


def shared_keys(plan):
    first(plan, "storage_account", "documents")["values"]["shared_access_key_enabled"] = True


def registry_admin(plan):
    plan.one("container_registry")["admin_enabled"] = True


def secret_by_terraform(plan):
    plan.resources.append({"type": "azurerm_key_vault_secret", "name": "x", "address": "x", "values": {}})


def password_in_the_state(plan):
    plan.one("linux_virtual_machine")["admin_password"] = "hunter2hunter2"


def an_owner(plan):
    first(plan, "role_assignment", name="pull")["values"]["role_definition_name"] = "Owner"


def the_machine_reads_the_mnemonic(plan):
    first(plan, "role_assignment", "data-ca", "vm")["index"] = "minting-mnemonic"


def any_branch(plan):
    first(plan, "federated_identity_credential", "apply")["values"]["subject"] = "repo:libertum/pool:*"


def vault_unwatched(plan):
    drop(plan, "monitor_diagnostic_setting", "vault")


def firewall_gone(plan):
    drop(plan, "firewall")


def starter_with_a_gateway(plan):
    plan.resources.append({"type": "azurerm_application_gateway", "name": "x", "address": "x", "values": {}})


BREAKS = {
    policies.no_internet_into_private: internet_to_data,
    policies.every_subnet_denies_the_rest: deny_gone,
    policies.public_takes_only_the_web: public_takes_ssh,
    policies.data_takes_only_the_pool: data_takes_the_network,
    policies.one_way_out: aks_leaves_by_nothing,
    policies.ranges_are_apart: pods_on_the_network,
    policies.vm_is_the_owners: vm_grows,
    policies.cluster_is_closed: local_accounts,
    policies.pools_are_as_described: a_warm_node,
    policies.jobs_pool_is_the_manifests: another_label,
    policies.names_are_the_overlays: another_vault,
    policies.archive_wants_its_replication: zone_redundant_backups,
    policies.backups_outlive_their_lock: lock_beyond_deletion,
    policies.inbox_outlives_dead_letters: inbox_of_a_week,
    policies.storage_is_closed: shared_keys,
    policies.registry_is_closed: registry_admin,
    policies.vault_is_closed: secret_by_terraform,
    policies.no_secret_in_the_state: password_in_the_state,
    policies.rights_are_small: an_owner,
    policies.the_machine_reads_its_own: the_machine_reads_the_mnemonic,
    policies.tokens_are_for_one: any_branch,
    policies.azure_is_watched: vault_unwatched,
    hardened_has_its_parts: firewall_gone,
    starter_is_cheap: starter_with_a_gateway,
}


def toothless(found_starter, found_hardened):
    """The policies that do not find what was broken for them."""
    for policy in [*EVERY, hardened_has_its_parts, starter_is_cheap]:
        found = found_hardened if policy is hardened_has_its_parts else found_starter
        plan = policies.Plan(copy.deepcopy(found))
        if list(policy(plan)):
            yield f"{policy.__name__} complains of an unbroken plan"
        BREAKS[policy](plan)
        if not list(policy(plan)):
            yield f"{policy.__name__} does not see {BREAKS[policy].__name__}"
