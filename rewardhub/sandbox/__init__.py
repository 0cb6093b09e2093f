"""Running untrusted programs. :mod:`~rewardhub.sandbox.runner` starts one run and decides its verdict;
:mod:`~rewardhub.sandbox.watch` keeps its limits; :mod:`~rewardhub.sandbox.engine` owns the warm processes
(:mod:`~rewardhub.sandbox.zygote`) that runs are forked from, each into namespaces of its own;
:mod:`~rewardhub.sandbox.launch` starts a process per run instead where none gets warm or isolation is
weak; :mod:`~rewardhub.sandbox.guard` runs a Python program inside. Zygote, launch and guard are scripts
of processes of their own, so this package imports nothing.
"""
