"""Recipes: named, versioned compositions of scorers, compiled to a plan of waves."""
