"""Packs the image's file system as an OCI archive, with its digest and bill of materials beside it.

    image.py ROOT TARGET VERSION        SOURCE_DATE_EPOCH: the time of every file in it
"""
import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
from datetime import datetime, timezone

NAME = "heddle"
LICENCE = "Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)"
# Packages whose libraries are inside the programs (Package.swift, HEDDLE_STATIC; bpf/ includes libbpf's headers).
STATIC = ["libbpf-dev", "libelf-dev", "libnftnl-dev", "libyaml-dev", "zlib1g-dev"]
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
CREATED = datetime.fromtimestamp(EPOCH, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def tar(members):
    """Members: (name, TarInfo type, mode, bytes or link), in order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, kind, mode, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, mode, EPOCH
            if kind == tarfile.REGTYPE:
                info.size = len(content)
            elif kind == tarfile.SYMTYPE:
                info.linkname = content
            archive.addfile(info, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    return out.getvalue()


def tree(root):
    """Everything below root by name, as members of a tar, all of root:root."""
    members = []
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(directory, name)
            inside, mode = os.path.relpath(path, root), os.lstat(path).st_mode & 0o7777
            if os.path.islink(path):
                members.append((inside, tarfile.SYMTYPE, 0o777, os.readlink(path)))
            elif os.path.isdir(path):
                members.append((inside + "/", tarfile.DIRTYPE, mode, None))
            else:
                with open(path, "rb") as file:
                    members.append((inside, tarfile.REGTYPE, mode, file.read()))
    return sorted(members)


def pack(root, version):
    """The archive, and the manifest's digest: what a registry calls the image."""
    blobs = {}

    def blob(kind, data):
        digest = sha256(data)
        blobs[digest] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def document(kind, value):
        return blob(kind, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())

    layer = tar(tree(root))
    labels = {
        "org.opencontainers.image.title": "Heddle",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": LICENCE,
    }
    config = document("config.v1+json", {
        "architecture": ARCHITECTURE, "os": "linux", "created": CREATED,
        "config": {
            "Entrypoint": ["/usr/local/bin/heddle-agent"], "Labels": labels,
            "Env": ["PATH=/usr/local/bin"], "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(layer)]},
        "history": [{"created": CREATED, "created_by": "scripts/image"}],
    })
    manifest = document("manifest.v1+json", {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
        "layers": [blob("layer.v1.tar+gzip", gzip.compress(layer, 6, mtime=0))], "annotations": labels,
    })
    manifest["annotations"] = {"org.opencontainers.image.ref.name": version}
    manifest["platform"] = {"architecture": ARCHITECTURE, "os": "linux"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]}
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index, sort_keys=True).encode()}
    files.update({"blobs/sha256/" + digest: data for digest, data in blobs.items()})
    members = [(name + "/", tarfile.DIRTYPE, 0o755, None) for name in ("blobs", "blobs/sha256")]
    members += [(name, tarfile.REGTYPE, 0o644, data) for name, data in files.items()]
    return tar(sorted(members)), manifest["digest"]


# ---------------------------------------------------------------------------------------------- the bill of materials

def debian_packages(root):
    """(name, version, source, is static) of the packages whose files are in the image or inside its programs."""
    form = "${binary:Package}\t${Version}\t${source:Package}\n"
    for names, is_static in ((sorted(os.listdir(root + "/var/lib/dpkg/status.d")), False), (STATIC, True)):
        for name in names:
            lines = subprocess.run(["dpkg-query", "-W", "-f", form, name], capture_output=True, text=True).stdout
            package, version, source = (lines or f"{name}\t\t{name}\n").split("\n")[0].split("\t")
            yield package.split(":")[0], version, source, is_static


def swift_packages():
    """(name, version, revision, location, is of tests only) of what Package.resolved pins."""
    pins = json.load(open("Package.resolved"))["pins"]
    shipped = None
    try:
        described = [json.loads(subprocess.run(
            ["swift", "package", *more], env=os.environ | {"HEDDLE_STATIC": "1"}, check=True, capture_output=True,
        ).stdout) for more in (["dump-package"], ["show-dependencies", "--format", "json"])]
        used = {product["product"][1] for target in described[0]["targets"] for product in target["dependencies"]
                if "product" in product}
        shipped = set()

        def follow(node):
            shipped.add(node["identity"])
            for child in node["dependencies"]:
                follow(child)
        for node in described[1]["dependencies"]:
            if node["identity"] in used:
                follow(node)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"image.py: swift does not answer, so all of Package.resolved counts as shipped: {error}",
              file=sys.stderr)
    for pin in pins:
        yield (pin["identity"], pin["state"].get("version", ""), pin["state"]["revision"], pin["location"],
               shipped is not None and pin["identity"] not in shipped)


def toolchain():
    try:
        lines = subprocess.run(["swift", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")
        return next(line for line in lines if "Swift version" in line).split("Swift version ")[1].split()[0]
    except (OSError, subprocess.CalledProcessError, StopIteration):
        return ""


def bill(root, version, digest):
    packages, relations = [], []

    def add(identity, name, package_version, relation, to, **more):
        packages.append({
            "SPDXID": identity, "name": name, "versionInfo": package_version or "NOASSERTION",
            "downloadLocation": "NOASSERTION", "filesAnalyzed": False, "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION", **more})
        pair = (to, identity) if relation != "TEST_DEPENDENCY_OF" else (identity, to)
        relations.append({"spdxElementId": pair[0], "relationshipType": relation, "relatedSpdxElement": pair[1]})

    def purl(locator):
        return [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}]

    image = "SPDXRef-image"
    add(image, "heddle", version, "DESCRIBES", "SPDXRef-DOCUMENT", licenseDeclared=LICENCE,
        primaryPackagePurpose="CONTAINER", checksums=[{"algorithm": "SHA256", "checksumValue": digest.split(":")[1]}],
        externalRefs=purl(f"pkg:oci/heddle@{digest.replace(':', '%3A')}"))
    for program in sorted(os.listdir(root + "/usr/local/bin")):
        with open(f"{root}/usr/local/bin/{program}", "rb") as file:
            add(f"SPDXRef-program-{program}", program, version, "CONTAINS", image, licenseDeclared=LICENCE,
                primaryPackagePurpose="APPLICATION",
                checksums=[{"algorithm": "SHA256", "checksumValue": sha256(file.read())}])
    for name, package_version, source, is_static in debian_packages(root):
        add(f"SPDXRef-debian-{name}".replace("+", "-plus"), name, package_version,
            "STATIC_LINK" if is_static else "CONTAINS", image, sourceInfo=f"Debian source package {source}",
            externalRefs=purl(f"pkg:deb/debian/{name.replace('+', '%2B')}@{package_version.replace('+', '%2B')}"
                              f"?arch={ARCHITECTURE}"))
    if toolchain():
        add("SPDXRef-swift-runtime", "swift-runtime", toolchain(), "STATIC_LINK", image, licenseDeclared="Apache-2.0",
            externalRefs=purl(f"pkg:swift/github.com/swiftlang/swift@{toolchain()}"))
    for name, package_version, revision, location, is_test in swift_packages():
        place = location.removeprefix("https://").removesuffix(".git")
        add(f"SPDXRef-swift-{name}", name, package_version, "TEST_DEPENDENCY_OF" if is_test else "STATIC_LINK", image,
            downloadLocation=f"git+{location}@{revision}", externalRefs=purl(f"pkg:swift/{place}@{package_version}"))
    return {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"heddle-{version}",
        "documentNamespace": f"https://heddle.io/spdx/{digest.split(':')[1]}",
        "creationInfo": {"created": CREATED, "creators": ["Tool: scripts-image"]},
        "packages": packages, "relationships": relations,
    }


def main(root, target, version):
    archive, digest = pack(root, version)
    for name, data in (("oci.tar", archive), ("digest", (digest + "\n").encode()),
                       ("spdx.json", (json.dumps(bill(root, version, digest), indent=2) + "\n").encode())):
        with open(f"{target}/{NAME}.{name}", "wb") as file:
            file.write(data)


main(*sys.argv[1:])
