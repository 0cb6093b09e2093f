"""RewardHub: every reward an RL run needs, behind one call."""

__version__ = "0.1.0"
