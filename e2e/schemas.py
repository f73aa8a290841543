"""The shapes of the built-in objects in each Kubernetes version, from the schema that client-go of
that version carries for server-side apply: which fields there are and what kind each is. A field
that a version does not know would be dropped there without a word, which is how a sidecar turns
into an init container that never ends.

It knows no values: what a field may hold is e2e/rules' part.
"""

import functools
import json
import pathlib
import re
import subprocess

import yaml

# The last client-go of each minor version that the charts support.
VERSIONS = {
    "1.25": "v0.25.16", "1.26": "v0.26.9", "1.27": "v0.27.4", "1.28": "v0.28.3", "1.29": "v0.29.15",
    "1.30": "v0.30.14", "1.31": "v0.31.14", "1.32": "v0.32.13", "1.33": "v0.33.13",
    "1.34": "v0.34.13", "1.35": "v0.35.10", "1.36": "v0.36.6", "1.37": "v0.37.2",
}
SCALARS = {"string": (str,), "numeric": (int, float), "boolean": (bool,),
           "untyped": (str, int, float, bool)}
# Served by none of the schemas, and the same in all versions.
HEADER = {"apiVersion", "kind"}


@functools.lru_cache(maxsize=None)
def types(go, version):
    """name -> type, as structured-merge-diff has it."""
    answer = subprocess.run([go, "mod", "download", "-json", f"k8s.io/client-go@{VERSIONS[version]}"],
                            check=True, stdout=subprocess.PIPE, cwd="/")
    folder = pathlib.Path(json.loads(answer.stdout)["Dir"])
    source = (folder / "applyconfigurations" / "internal" / "internal.go").read_text()
    text = re.search(r"typed\.YAMLObject\(`(.*?)`\)", source, re.DOTALL)[1]
    loaded = yaml.load(text, Loader=yaml.CSafeLoader)
    return {entry["name"]: entry for entry in loaded["types"]}


def problems(go, version, document):
    known = types(go, version)
    group, _, api = document["apiVersion"].rpartition("/")
    package = {"": "core"}.get(group, group.split(".")[0])
    name = f"io.k8s.api.{package}.{api}.{document['kind']}"
    if name not in known:
        return [f"{document['apiVersion']} {document['kind']}: unknown to Kubernetes {version}"]
    found = []
    check(known, known[name], {k: v for k, v in document.items() if k not in HEADER},
          f"{document['kind']}/{document['metadata'].get('name')}", found)
    return found


def check(known, kind, value, path, found):
    if "namedType" in kind:
        kind = known[kind["namedType"]]
    if value is None:
        return
    if isinstance(kind.get("scalar"), str) and not isinstance(value, (dict, list)):
        if not isinstance(value, SCALARS[kind["scalar"]]) or (
                isinstance(value, bool) and kind["scalar"] == "numeric"):
            found.append(f"{path}: {value!r} is no {kind['scalar']}")
    elif "list" in kind and isinstance(value, list):
        for number, item in enumerate(value):
            check(known, kind["list"]["elementType"], item, f"{path}[{number}]", found)
    elif "map" in kind and isinstance(value, dict):
        fields = {field["name"]: field["type"] for field in kind["map"].get("fields", [])}
        rest = kind["map"].get("elementType")
        for key, part in value.items():
            if key in fields:
                check(known, fields[key], part, f"{path}.{key}", found)
            elif rest is not None:
                check(known, rest, part, f"{path}.{key}", found)
            else:
                found.append(f"{path}.{key}: unknown")
    else:
        found.append(f"{path}: {type(value).__name__} is not what belongs there")
