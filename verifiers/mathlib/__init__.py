"""The math engine: extract, normalise, parse with an allow-list grammar, compare in three tiers.

``text``  equal after normalising, or not mathematics at all;
``exact`` decided by our own exact arithmetic on the typed tree;
``symbolic`` SymPy objects built from that tree, on a lane that can be killed.
Nothing that a response or a reference says is ever evaluated as code.
"""
