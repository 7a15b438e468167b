"""Stands in for the azurerm provider where Terraform validates and plans offline: its schema, and nothing behind it.

provider.py PACKAGE TERRAFORM_DIR SOCKET   serves until SIGTERM; prints one line of JSON for TF_REATTACH_PROVIDERS

What the configuration leaves to Azure is unknown in a plan, as with the real provider. "Applying" fills such places with
words and touches nothing: it makes a state against which the next plan can be read.
"""
import json
import os
import sys
from concurrent import futures

import grpc
import msgpack
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc

import schema

# What "hashicorp/azurerm" is to Terraform and to OpenTofu.
NAMES = ("registry.terraform.io/hashicorp/azurerm", "registry.opentofu.org/hashicorp/azurerm")
UNKNOWN = msgpack.ExtType(0, b"\x00")
NESTING = {"list": pb.Schema.NestedBlock.LIST, "set": pb.Schema.NestedBlock.SET, "single": pb.Schema.NestedBlock.SINGLE}
# Blocks that may be left out and are there all the same once Azure has answered.
FILLED_IN = {("azurerm_kubernetes_cluster", "kubelet_identity")}
# What a data source answers: the shape matters to the configuration, the value does not.
ANSWER = "00000000-0000-0000-0000-000000000000"


def proto_block(block):
    attributes = [
        pb.Schema.Attribute(name=name, type=json.dumps(kind).encode(), required=required,
                            optional=not required and not (computed and readonly(block, name)), computed=computed)
        for name, (kind, required, computed) in sorted(block.attributes.items())
    ]
    nested = [
        pb.Schema.NestedBlock(type_name=name, block=proto_block(inner), nesting=NESTING[nesting],
                              min_items=1 if required and nesting != "single" else 0)
        for name, (inner, nesting, required) in sorted(block.blocks.items())
    ]
    return pb.Schema.Block(attributes=attributes, block_types=nested)


def readonly(block, name):
    kind = block.attributes[name][0]
    return not (isinstance(kind, list) and isinstance(kind[1], list))


def fill(block, value, type_name):
    """What only Azure knows becomes unknown."""
    for name, (_, _, computed) in block.attributes.items():
        if computed and value.get(name) is None:
            value[name] = UNKNOWN
    for name, (inner, nesting, _) in block.blocks.items():
        found = value.get(name)
        if (type_name, name) in FILLED_IN and not found:
            value[name] = UNKNOWN
        elif nesting != "single" and isinstance(found, list):
            for item in found:
                if isinstance(item, dict):
                    fill(inner, item, None)
    return value


def settle(kind, value, word):
    """A value of the kind in place of an unknown one."""
    if isinstance(value, msgpack.ExtType):
        if kind == "string":
            return word
        if kind in ("number", "bool"):
            return 0 if kind == "number" else False
        return {} if kind[0] in ("map", "object") else []
    return value


def settle_block(block, value, word):
    for name, (kind, _, _) in block.attributes.items():
        value[name] = settle(kind, value.get(name), f"{word}/{name}")
    for name, (inner, nesting, _) in block.blocks.items():
        found = value.get(name)
        if isinstance(found, msgpack.ExtType):
            found = value[name] = [{n: settle(k, UNKNOWN, f"{word}/{name}/{n}") for n, (k, _, _) in inner.attributes.items()}]
        if nesting != "single" and isinstance(found, list):
            for item in found:
                settle_block(inner, item, f"{word}/{name}")
    return value


class Provider(rpc.ProviderServicer):
    def __init__(self, package, folder):
        resources, data = schema.used(folder)
        self.provider = schema.provider(package)
        self.resources = {f"azurerm_{n}": s for n in sorted(resources) if (s := schema.resource(package, n))}
        self.data = {f"azurerm_{n}": s for n in sorted(data) if (s := schema.data_source(package, n))}

    def GetMetadata(self, request, context):
        return pb.GetMetadata.Response(
            resources=[pb.GetMetadata.ResourceMetadata(type_name=n) for n in self.resources],
            data_sources=[pb.GetMetadata.DataSourceMetadata(type_name=n) for n in self.data],
        )

    def GetProviderSchema(self, request, context):
        return pb.GetProviderSchema.Response(
            provider=pb.Schema(version=0, block=proto_block(self.provider)),
            resource_schemas={n: pb.Schema(version=0, block=proto_block(s)) for n, s in self.resources.items()},
            data_source_schemas={n: pb.Schema(version=0, block=proto_block(s)) for n, s in self.data.items()},
        )

    def ValidateProviderConfig(self, request, context):
        return pb.ValidateProviderConfig.Response()

    def ConfigureProvider(self, request, context):
        return pb.ConfigureProvider.Response()

    def ValidateResourceConfig(self, request, context):
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request, context):
        return pb.ValidateDataResourceConfig.Response()

    def PlanResourceChange(self, request, context):
        proposed = msgpack.unpackb(request.proposed_new_state.msgpack, strict_map_key=False)
        if proposed is not None:
            proposed = fill(self.resources[request.type_name], proposed, request.type_name)
        planned = pb.DynamicValue(msgpack=msgpack.packb(proposed))
        return pb.PlanResourceChange.Response(planned_state=planned, legacy_type_system=True)

    def ReadResource(self, request, context):
        return pb.ReadResource.Response(new_state=request.current_state)

    def UpgradeResourceState(self, request, context):
        return pb.UpgradeResourceState.Response(upgraded_state=pb.DynamicValue(json=request.raw_state.json))

    def ApplyResourceChange(self, request, context):
        planned = msgpack.unpackb(request.planned_state.msgpack, strict_map_key=False)
        if planned is not None:
            word = f"{request.type_name}/{planned.get('name') or 'it'}"
            planned = settle_block(self.resources[request.type_name], planned, word)
        return pb.ApplyResourceChange.Response(new_state=pb.DynamicValue(msgpack=msgpack.packb(planned)), legacy_type_system=True)

    def ReadDataSource(self, request, context):
        value = msgpack.unpackb(request.config.msgpack, strict_map_key=False)
        for name, (kind, _, computed) in self.data[request.type_name].attributes.items():
            if computed and value.get(name) is None:
                value[name] = ANSWER if kind == "string" else None
        return pb.ReadDataSource.Response(state=pb.DynamicValue(msgpack=msgpack.packb(value)))

    def StopProvider(self, request, context):
        return pb.StopProvider.Response()


def main():
    package, folder, socket = sys.argv[1:]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.max_send_message_length", 256 << 20)])
    rpc.add_ProviderServicer_to_server(Provider(package, folder), server)
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    address = {"Network": "unix", "String": socket}
    served = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": address}
    print(json.dumps({name: served for name in NAMES}), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
