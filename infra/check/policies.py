"""What must hold of a plan. Each policy yields what is wrong; teeth.py has a change for each that it must find."""
import ipaddress
import os
import re
import subprocess
import sys

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PRIVATE = ("data", "aks", "ingress", "privatelink")
ANYWHERE = ("*", "Internet", "0.0.0.0/0")


class Plan:
    def __init__(self, found):
        self.found = found
        self.resources = list(self.walk(found["planned_values"]["root_module"]))
        self.actions = {change["address"]: change["change"]["actions"] for change in found["resource_changes"]}
        self.unknown = {change["address"]: change["change"]["after_unknown"] for change in found["resource_changes"]}

    def walk(self, module):
        yield from module.get("resources", [])
        for child in module.get("child_modules", []):
            yield from self.walk(child)

    def all(self, kind):
        return [r for r in self.resources if r["type"] == f"azurerm_{kind}"]

    def values(self, kind):
        return [r["values"] for r in self.all(kind)]

    def one(self, kind):
        found = self.values(kind)
        assert len(found) == 1, f"{len(found)} of azurerm_{kind}"
        return found[0]

    def has(self, kind):
        return bool(self.all(kind))


def subnet_of(rule):
    return rule["network_security_group_name"].split("-")[1]


def sources(rule):
    return rule["source_address_prefixes"] or [rule["source_address_prefix"]]


def ports(rule):
    return set(rule["destination_port_ranges"] or [rule["destination_port_range"]])


def no_internet_into_private(plan):
    """Into the private subnets nothing from the Internet, but what was sent to the load balancer's one address (starter)."""
    gateway = plan.has("application_gateway")
    for resource in plan.all("network_security_rule"):
        rule = resource["values"]
        if rule["direction"] != "Inbound" or rule["access"] != "Allow" or subnet_of(rule) not in PRIVATE:
            continue
        if not any(source in ANYWHERE for source in sources(rule)):
            continue
        # The entrance's address is known only once it is made; until then the place must be unknown, never a pattern.
        only_entrance = plan.unknown[resource["address"]].get("destination_address_prefix") is True
        if gateway or subnet_of(rule) != "aks" or not only_entrance or not ports(rule) <= {"80", "443"}:
            yield f"{subnet_of(rule)} lets in {sources(rule)} by {rule['name']}"


def every_subnet_denies_the_rest(plan):
    groups = {r["values"]["name"].split("-")[1] for r in plan.all("network_security_group")}
    for subnet in groups:
        last = [r for r in plan.values("network_security_rule") if subnet_of(r) == subnet and r["direction"] == "Inbound" and r["priority"] == 4096]
        if not last or last[0]["access"] != "Deny" or last[0]["source_address_prefix"] != "*" or ports(last[0]) != {"*"}:
            yield f"{subnet} does not deny what no rule names"
    tied = {r["index"] for r in plan.all("subnet_network_security_group_association")}
    for subnet in {"public", *PRIVATE} - tied:
        yield f"{subnet} has no network security group"


def public_takes_only_the_web(plan):
    for rule in plan.values("network_security_rule"):
        if subnet_of(rule) == "public" and rule["direction"] == "Inbound" and rule["access"] == "Allow":
            allowed = {"Internet": {"80", "443"}, "GatewayManager": {"65200-65535"}, "AzureLoadBalancer": {"*"}}
            for source in sources(rule):
                if not ports(rule) <= allowed.get(source, set()):
                    yield f"public lets {source} reach {sorted(ports(rule))}"


def data_takes_only_the_pool(plan):
    cluster = [r["values"]["address_prefixes"][0] for r in plan.all("subnet") if r.get("index") == "aks"][0]
    for rule in plan.values("network_security_rule"):
        if subnet_of(rule) == "data" and rule["direction"] == "Inbound" and rule["access"] == "Allow":
            if sources(rule) != [cluster]:
                yield f"the data machine takes from {sources(rule)}, not from the nodes alone"
            if not ports(rule) <= {"9094", "6380", "27017", "9100", "9121"}:
                yield f"the data machine's subnet opens {sorted(ports(rule))}"


def one_way_out(plan):
    """Every private subnet leaves by the NAT gateway or by the firewall, and by nothing else."""
    nat = {r["index"] for r in plan.all("subnet_nat_gateway_association")}
    routed = {r["index"] for r in plan.all("subnet_route_table_association")}
    for subnet in PRIVATE:
        if (subnet in nat) == (subnet in routed):
            yield f"{subnet} has {'two ways' if subnet in nat else 'no way'} out"
    if plan.has("firewall") and not {"data", "aks"} <= routed:
        yield "with a firewall, data and aks leave past it"
    address = [r["values"] for r in plan.all("public_ip") if r["name"] == "nat"][0]
    if address["allocation_method"] != "Static":
        yield "the NAT gateway's address is not static"
    for resource in plan.all("subnet"):
        if resource["values"]["default_outbound_access_enabled"] is not False:
            yield f"{resource['address']} has Azure's default way out"
    wanted = "userDefinedRouting" if plan.has("firewall") else "userAssignedNATGateway"
    if plan.one("kubernetes_cluster")["network_profile"][0]["outbound_type"] != wanted:
        yield f"the cluster's outbound type is not {wanted}"


def ranges_are_apart(plan):
    network = plan.one("virtual_network")["address_space"][0]
    profile = plan.one("kubernetes_cluster")["network_profile"][0]
    found = [ipaddress.ip_network(n) for n in (network, profile["pod_cidr"], profile["service_cidr"])]
    subnets = [ipaddress.ip_network(r["values"]["address_prefixes"][0]) for r in plan.all("subnet")]
    for group in (found, subnets):
        for i, one in enumerate(group):
            for other in group[i + 1:]:
                if one.overlaps(other):
                    yield f"{one} and {other} overlap"


def vm_is_the_owners(plan):
    vm = plan.one("linux_virtual_machine")
    wanted = {
        "name": "prod-Kafka-redis-libertum", "computer_name": "prod-kafka-redis-libertum", "size": "Standard_D2ls_v5",
        "disable_password_authentication": True, "encryption_at_host_enabled": True, "admin_password": None,
    }
    for name, value in wanted.items():
        if vm[name] != value:
            yield f"the VM's {name} is {vm[name]!r}, not {value!r}"
    if vm["os_disk"][0]["disk_size_gb"] != 30:
        yield "the VM's disk is not 30 GB"
    if not vm["source_image_reference"][0]["sku"].startswith("22_04"):
        yield "the VM is not Ubuntu 22.04"
    if plan.one("network_interface")["ip_configuration"][0]["public_ip_address_id"]:
        yield "the VM has a public address"


def cluster_is_closed(plan):
    cluster = plan.one("kubernetes_cluster")
    wanted = {
        "local_account_disabled": True, "oidc_issuer_enabled": True, "workload_identity_enabled": True, "azure_policy_enabled": True,
        "run_command_enabled": False, "sku_tier": "Standard", "automatic_upgrade_channel": "patch", "node_os_upgrade_channel": "NodeImage",
    }
    for name, value in wanted.items():
        if cluster[name] != value:
            yield f"the cluster's {name} is {cluster[name]!r}, not {value!r}"
    if not cluster["private_cluster_enabled"] and not (cluster["api_server_access_profile"] or [{}])[0].get("authorized_ip_ranges"):
        yield "anybody may reach the API server"
    if not cluster["azure_active_directory_role_based_access_control"][0]["azure_rbac_enabled"]:
        yield "rights in the cluster are not Entra's"
    if not cluster["workload_autoscaler_profile"][0]["keda_enabled"]:
        yield "KEDA is off"
    network = cluster["network_profile"][0]
    if (network["network_policy"], network["network_data_plane"]) != ("cilium", "cilium"):
        yield "network policies are not Cilium's"
    # A private cluster answers as well where a firewall stands: hardened is both.
    if plan.has("application_gateway") and not cluster["private_cluster_enabled"]:
        yield "hardened, and the API server is public"


def pools(plan):
    first = plan.one("kubernetes_cluster")["default_node_pool"][0]
    return [first, *plan.values("kubernetes_cluster_node_pool")]


def pools_are_as_described(plan):
    for pool in pools(plan):
        name = pool["name"]
        if len(pool["zones"] or []) < 3:
            yield f"pool {name} is not in three zones"
        if not pool["auto_scaling_enabled"]:
            yield f"pool {name} does not scale"
        if not 30 <= pool["max_pods"] <= 110:
            yield f"pool {name}: max_pods {pool['max_pods']} costs a quarter of the memory, or is too few"
        if name != "system" and pool["vm_size"] != "Standard_D2ds_v5":
            yield f"pool {name} is not of 2 cores and 8 GB"
        if name == "base" and (pool["min_count"], pool["max_count"]) != (3, 6):
            yield "the base pool is not 3 to 6 nodes"
        if name == "jobs" and pool["min_count"] != 0:
            yield "the jobs pool does not start from zero"
    if {p["name"] for p in pools(plan)} not in ({"base", "jobs"}, {"system", "base", "jobs"}):
        yield f"the pools are {[p['name'] for p in pools(plan)]}"


def jobs_pool_is_the_manifests(plan):
    """The label that workers select and the taint that they tolerate are those of the pool."""
    jobs = [p for p in pools(plan) if p["name"] == "jobs"][0]
    folder = os.path.join(ROOT, "k8s/base/workers")
    for file in sorted(os.listdir(folder)):
        with open(os.path.join(folder, file)) as text:
            manifests = [m for m in yaml.safe_load_all(text) if m and m.get("kind") == "ScaledJob"]
        for manifest in manifests:
            pod = manifest["spec"]["jobTargetRef"]["template"]["spec"]
            for label, value in pod["nodeSelector"].items():
                if (jobs["node_labels"] or {}).get(label) != value:
                    yield f"{file} selects {label}={value}, which no node of the pool has"
            tolerated = {f"{t['key']}={t['value']}:{t['effect']}" for t in pod["tolerations"]}
            for taint in jobs["node_taints"] or []:
                if taint not in tolerated:
                    yield f"{file} does not tolerate {taint}"
    if not jobs["node_taints"]:
        yield "anything may run on the jobs pool"


def names_are_the_overlays(plan):
    """What the production overlay believes of the environment is what Terraform makes."""
    folder = os.path.join(ROOT, "k8s/overlays/production")
    with open(os.path.join(folder, "environment.yaml")) as file:
        told = yaml.safe_load(file)["data"]
    with open(os.path.join(folder, "settings.env")) as file:
        told |= dict(line.strip().split("=", 1) for line in file if "=" in line and not line.startswith("#"))
    inside = [r["values"]["name"] for r in plan.all("private_dns_zone") if r["name"] == "inside"][0]
    accounts = {r["index"]: r["values"]["name"] for r in plan.all("storage_account") if "index" in r and isinstance(r["index"], str)}
    privatelink = [r["values"]["address_prefixes"][0] for r in plan.all("subnet") if r.get("index") == "privatelink"][0]
    wanted = {
        "key-vault": plan.one("key_vault")["name"],
        "key-vault-uri": f"https://{plan.one('key_vault')['name']}.vault.azure.net",
        "data-machine-cidr": plan.one("network_interface")["ip_configuration"][0]["private_ip_address"] + "/32",
        "private-endpoints-cidr": privatelink,
        "KAFKA_BROKERS": f"data.{inside}:9094",
        "BLOB_ENDPOINT": f"https://{accounts['documents']}.blob.core.windows.net",
        "BACKUP_BLOB_ENDPOINT": f"https://{accounts['backups']}.blob.core.windows.net",
    }
    for name, value in wanted.items():
        if told.get(name) != value:
            yield f"the overlay says {name}={told.get(name)}, Terraform makes {value}"
    identities = {f"identity-{r['index']}" for r in plan.all("user_assigned_identity") if r["name"] == "pod"}
    for name in {n for n in told if n.startswith("identity-")} - identities:
        yield f"the overlay wants {name}, which Terraform does not make"


def archive_wants_its_replication(plan):
    for account in plan.all("storage_account"):
        if account["name"] == "this" and account["values"]["account_replication_type"] not in ("LRS", "GRS", "RAGRS"):
            yield f"{account['values']['name']} has no archive tier"


def backups_outlive_their_lock(plan):
    locked = plan.one("storage_container_immutability_policy")["immutability_period_in_days"]
    policy = [r["values"] for r in plan.all("storage_management_policy") if r["name"] == "backups"][0]
    actions = policy["rule"][0]["actions"][0]["base_blob"][0]
    if not locked < actions["delete_after_days_since_creation_greater_than"]:
        yield "backups would be deleted while they cannot be"
    if not actions["tier_to_cool_after_days_since_creation_greater_than"] < actions["tier_to_archive_after_days_since_creation_greater_than"]:
        yield "backups go to the archive before they are cool"


def inbox_outlives_dead_letters(plan):
    policy = [r["values"] for r in plan.all("storage_management_policy") if r["name"] == "documents"][0]
    inbox = [r for r in policy["rule"] if r["name"] == "inbox"][0]
    days = inbox["actions"][0]["base_blob"][0]["delete_after_days_since_creation_greater_than"]
    with open(os.path.join(ROOT, "scalers/topics.yaml")) as file:
        dead = max(t["retentionHours"] for t in yaml.safe_load(file)["topics"] if t["name"].endswith(".dead")) / 24
    if days <= dead:
        yield f"an upload goes after {days} days, a dead letter that needs it after {dead:g}"


def storage_is_closed(plan):
    for account in plan.values("storage_account"):
        wanted = {"min_tls_version": "TLS1_2", "shared_access_key_enabled": False, "allow_nested_items_to_be_public": False}
        for name, value in wanted.items():
            if account[name] != value:
                yield f"{account['name']}: {name} is {account[name]!r}"
        if account["network_rules"][0]["default_action"] != "Deny":
            yield f"{account['name']} is open to every network"
    for account in [r["values"] for r in plan.all("storage_account") if r["name"] == "this"]:
        blob = account["blob_properties"][0]
        if not blob["versioning_enabled"] or not blob["delete_retention_policy"] or account["public_network_access_enabled"]:
            yield f"{account['name']}: no versions, no soft delete, or a public endpoint"


def registry_is_closed(plan):
    registry = plan.one("container_registry")
    if registry["admin_enabled"] or registry["anonymous_pull_enabled"]:
        yield "the registry has an admin or lets anybody pull"
    if plan.has("application_gateway") and (registry["sku"] != "Premium" or registry["public_network_access_enabled"]):
        yield "hardened, and the registry is public"
    for assignment in plan.all("role_assignment"):
        if assignment["values"]["role_definition_name"] == "AcrPush" and assignment.get("index") != "push-images":
            yield f"{assignment['address']} may push images"
        if assignment["values"]["role_definition_name"] == "AcrPull" and assignment["name"] not in ("pull", "read_images"):
            yield f"{assignment['address']} may pull images"


def vault_is_closed(plan):
    vault = plan.one("key_vault")
    if not vault["rbac_authorization_enabled"] or not vault["purge_protection_enabled"]:
        yield "the vault has access policies, or can be purged"
    if vault["network_acls"][0]["default_action"] != "Deny" or vault["network_acls"][0]["ip_rules"]:
        yield "the vault is open to a network"
    # A secret made by Terraform is a secret in its state.
    for kind in ("key_vault_secret", "key_vault_certificate", "key_vault_key"):
        if plan.has(kind):
            yield f"Terraform makes azurerm_{kind}: infra/secrets is for that"


def no_secret_in_the_state(plan):
    word = re.compile(r"password|secret|connection_string|access_key|_token", re.I)
    allowed = re.compile(r"secret_rotation|disable_password|shared_access_key_enabled|key_vault_secret|key_data|secrets_provider|password_authentication")

    def look(address, name, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from look(address, key, inner)
        elif isinstance(value, list):
            for inner in value:
                yield from look(address, name, inner)
        elif isinstance(value, str) and value and word.search(name) and not allowed.search(name):
            yield f"{address}: {name} has a value"

    for resource in plan.resources:
        yield from look(resource["address"], "", resource["values"])


def rights_are_small(plan):
    for assignment in plan.all("role_assignment"):
        role, scope = assignment["values"]["role_definition_name"], assignment["values"].get("scope") or ""
        if role in ("Owner", "User Access Administrator"):
            yield f"{assignment['address']} gives {role}"
        if re.fullmatch(r"/subscriptions/[^/]+", scope):
            yield f"{assignment['address']} is for the whole subscription"
        if role == "Role Based Access Control Administrator" and not assignment["values"].get("condition"):
            yield f"{assignment['address']} may give every right"


def the_machine_reads_its_own(plan):
    """The data machine may read the secrets that it fetches, and no other of the vault."""
    files = os.path.join(ROOT, "infra/modules/vm/files")
    program = [sys.executable, os.path.join(files, "bin/libertum-configure"), "names", "--templates", files]
    wanted = set(subprocess.run(program, capture_output=True, text=True, timeout=30, check=True).stdout.split())
    given = {r.get("index") for r in plan.all("role_assignment") if r["name"] == "vm"}
    for name in sorted(wanted - given, key=str):
        yield f"the data machine fetches {name}, and may not"
    for name in sorted(given - wanted, key=str):
        yield f"the data machine may read {name or 'the whole vault'}, and does not need to"


def tokens_are_for_one(plan):
    subjects = [r["values"]["subject"] for r in plan.all("federated_identity_credential")]
    for subject in subjects:
        if "*" in subject or not re.fullmatch(r"system:serviceaccount:[a-z-]+:[a-z-]+|repo:[^:/]+/[^:/]+:environment:[a-z-]+", subject):
            yield f"a credential is for {subject}"
    if len(subjects) != len(set(subjects)):
        yield "two identities are for one subject"
    if "system:serviceaccount:kube-system:keda-operator" not in subjects:
        yield "KEDA cannot read its password"


def azure_is_watched(plan):
    watched = {r["index"] for r in plan.all("monitor_diagnostic_setting")}
    for name in {"aks", "vault", "registry", "documents", "backups"} - watched:
        yield f"{name} sends no logs"
    if len(plan.one("consumption_budget_resource_group")["notification"]) < 2:
        yield "the budget warns once"
    for flow in plan.all("network_watcher_flow_log"):
        if flow["values"]["network_security_group_id"]:
            yield "flow logs of a group are retired: of the network"


def hardened_has_its_parts(plan):
    """Only asked of hardened."""
    for kind in ("application_gateway", "web_application_firewall_policy", "firewall", "security_center_subscription_pricing", "network_watcher_flow_log"):
        if not plan.has(kind):
            yield f"hardened without azurerm_{kind}"
    if [p for p in pools(plan) if p["name"] == "system" and not p["only_critical_addons_enabled"]]:
        yield "the system pool takes anything"
    if plan.has("web_application_firewall_policy") and plan.one("web_application_firewall_policy")["policy_settings"][0]["mode"] != "Prevention":
        yield "the web application firewall only watches"


def starter_is_cheap(plan):
    """Only asked of starter."""
    for kind in ("application_gateway", "firewall", "security_center_subscription_pricing"):
        if plan.has(kind):
            yield f"starter with azurerm_{kind}"
    if plan.one("container_registry")["sku"] != "Standard":
        yield "starter with more than a Standard registry"


EVERY = [
    no_internet_into_private, every_subnet_denies_the_rest, public_takes_only_the_web, data_takes_only_the_pool, one_way_out,
    ranges_are_apart, vm_is_the_owners, cluster_is_closed, pools_are_as_described, jobs_pool_is_the_manifests, names_are_the_overlays,
    archive_wants_its_replication, backups_outlive_their_lock, inbox_outlives_dead_letters, storage_is_closed, registry_is_closed,
    vault_is_closed, no_secret_in_the_state, rights_are_small, the_machine_reads_its_own, tokens_are_for_one, azure_is_watched,
]
