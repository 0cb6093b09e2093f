"""Takes the solid that a CadQuery program made out as BREP. Its source runs in the sandbox as the program's probe.

It chooses the names that CadQuery's editors and published data sets use, else the last solid in the
program's names.
"""

import io
from collections.abc import Mapping
from typing import Any

_NAMES = ("result", "r", "solid", "part", "model", "shape", "assembly", "body")


def brep(made: Mapping[str, Any]) -> bytes:
    """The shape as BREP, empty where the program made none."""
    shown = [made[name] for name in _NAMES if name in made] + list(made.values())[::-1]
    shape = next((each for each in map(_shape, shown) if each is not None), None)
    out = io.BytesIO()
    if shape is not None:
        shape.exportBrep(out)
    return out.getvalue()


def _shape(value: Any) -> Any:
    """The shape in a value, None where it is none or has no volume."""
    import cadquery as cq

    if isinstance(value, cq.Assembly):
        value = value.toCompound()
    elif isinstance(value, cq.Workplane):
        shapes = [each for each in value.vals() if isinstance(each, cq.Shape)]
        value = shapes[0] if len(shapes) == 1 else cq.Compound.makeCompound(shapes) if shapes else None
    return value if isinstance(value, cq.Shape) and value.Solids() else None
