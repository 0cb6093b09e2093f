"""One file per trainer: pure translation between the trainer's reward contract and groups and scores.

An adapter takes its hub from its parameters, else from the environment: ``REWARDHUB_URL``,
``REWARDHUB_RECIPE``, ``REWARDHUB_API_KEY``. Every adapter raises on a score without a value unless it is
told otherwise with ``on_failure``.
"""
