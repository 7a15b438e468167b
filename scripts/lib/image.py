"""What is in an image: reads `docker save IMAGE` on standard input, writes JSON.

User, entry point, labels, every file with its size, what a node fetches of it (its layers, packed as registries keep them), and of the program
at /worker whether it is static and how many packages the list that cargo-auditable puts into it has.
"""
import io
import json
import struct
import sys
import tarfile
import zlib

SECTION = ".dep-v0"
PT_INTERP = 3


def sections(program):
    """Name and bytes of each section of a 64-bit little-endian ELF file."""
    start, size, count, names = struct.unpack_from("<Q", program, 0x28)[0], *struct.unpack_from("<HHH", program, 0x3A)
    heads = [struct.unpack_from("<IIQQQQ", program, start + i * size) for i in range(count)]
    text = program[heads[names][4]:heads[names][4] + heads[names][5]]
    for name, _, _, _, offset, length in heads:
        yield text[name:text.index(b"\0", name)].decode(), program[offset:offset + length]


def looked_at(program):
    if program[:5] != b"\x7fELF\x02":
        sys.exit("/worker is no 64-bit ELF program")
    start, size, count = struct.unpack_from("<Q", program, 0x20)[0], *struct.unpack_from("<HH", program, 0x36)
    segments = {struct.unpack_from("<I", program, start + i * size)[0] for i in range(count)}
    listed = next((zlib.decompress(data) for name, data in sections(program) if name == SECTION), None)
    return {"static": PT_INTERP not in segments, "packages": len(json.loads(listed)["packages"]) if listed else 0}


def main():
    saved = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()))
    manifest = json.load(saved.extractfile("manifest.json"))[0]
    config = json.load(saved.extractfile(manifest["Config"]))
    files, program, packed = {}, None, 0
    for layer in manifest["Layers"]:
        layer = saved.extractfile(layer).read()
        packed += len(layer if layer[:2] == b"\x1f\x8b" else zlib.compress(layer, 6))
        with tarfile.open(fileobj=io.BytesIO(layer)) as members:
            for member in members:
                path = "/" + member.name.removeprefix("./").rstrip("/")
                if member.isdir():
                    continue
                files[path] = member.size
                if path == "/worker":
                    program = members.extractfile(member).read()
    if program is None:
        sys.exit("the image has no /worker")
    ran = config["config"]
    json.dump({
        "user": ran.get("User", ""),
        "entrypoint": ran.get("Entrypoint"),
        "labels": ran.get("Labels") or {},
        "bytes": sum(files.values()),
        "packed": packed,
        "files": dict(sorted(files.items())),
        "program": looked_at(program),
    }, sys.stdout)


main()
