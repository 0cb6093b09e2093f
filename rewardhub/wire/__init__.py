"""The vocabulary on the wire: JSON lines (``lines``) and protobuf columns (``proto``).

Doors and clients translate here and nowhere else.
"""
