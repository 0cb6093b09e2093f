"""Protocols of other systems, each one file of pure translation."""
