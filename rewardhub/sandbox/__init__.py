"""Running untrusted programs: :mod:`~rewardhub.sandbox.runner` starts one run, watches its limits and
decides the verdict; :mod:`~rewardhub.sandbox.launch` isolates it; :mod:`~rewardhub.sandbox.guard` runs
inside. The latter two are scripts of processes of their own, so this package imports nothing.
"""
