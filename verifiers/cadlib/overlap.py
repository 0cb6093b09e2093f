"""Compares two solids by volume. Its source runs in the sandbox as a program of ours: BREP is hostile input too.

Reads ``{"found", "gold", "align"}`` as JSON, the solids as BREP in base64; prints the volumes of both and
of what they share as JSON, or ``{"fault"}``, "found" or "gold", where that one is no valid solid.
"""

import base64
import io
import json
import sys
from typing import Any


def main() -> None:
    """Volumes in the programs' unit of length, cubed; with ``align`` both are moved to the origin first."""
    asked = json.load(sys.stdin)
    solids = {}
    for name in ("gold", "found"):
        solids[name] = _read(asked[name], centred=asked["align"])
        if solids[name] is None:
            print(json.dumps({"fault": name}))
            return
    shared = solids["found"].intersect(solids["gold"])
    volumes = {name: abs(each.Volume()) for name, each in solids.items()}
    print(json.dumps(volumes | {"shared": abs(shared.Volume())}))


def _read(text: str, *, centred: bool) -> Any:
    import cadquery as cq

    shape = cq.Shape.importBrep(io.BytesIO(base64.b64decode(text)))
    solids = shape.Solids()
    if not solids or not shape.isValid():
        return None
    whole: Any = solids[0]
    for each in solids[1:]:
        whole = whole.fuse(each)
    if not abs(whole.Volume()) > 0:
        return None
    box = whole.BoundingBox()
    return whole.translate(cq.Vector(-box.center.x, -box.center.y, -box.center.z)) if centred else whole


if __name__ == "__main__":
    main()
