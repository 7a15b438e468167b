"""The settings that the checks plan with: both sizes, every option taken once."""
import copy

STARTER = {
    "location": "westeurope",
    "size": "starter",
    "cidr": "10.20.0.0/16",
    "host": "intake.production.libertum.example",
    "github_repository": "libertum/pool",
    "state_container_id": "/subscriptions/s/resourceGroups/rg-libertum-state",
    "admin_group_ids": ["00000000-0000-0000-0000-000000000001"],
    "api_authorized_ranges": ["203.0.113.0/24"],
    "mail": ["operations@libertum.example"],
    "budget": {"amount": 900, "start": "2026-12-01T00:00:00Z"},
    "vm": {"admin_ssh_public_key": "ssh-ed25519 AAAA", "kafka_version": "4.4.0", "kafka_sha512": "0" * 128, "mongodb_version": "8.0.15"},
}


def hardened():
    settings = copy.deepcopy(STARTER)
    settings.update(registry_readers={"production": "00000000-0000-0000-0000-000000000002"})
    settings.update(size="hardened", gateway_subnet=True, peered_network_ids={"office": "/subscriptions/s/office"},
                    network_watcher={"name": "watcher", "resource_group_name": "NetworkWatcherRG"}, api_authorized_ranges=[])
    settings["vm"]["data_disk"] = {"size_gb": 64}
    return settings


def changed(**changes):
    settings = copy.deepcopy(STARTER)
    settings.update(changes)
    return settings
