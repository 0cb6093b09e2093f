"""A JSON Schema validator whose patterns run in linear time."""
