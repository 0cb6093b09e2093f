"""Running untrusted programs.

:mod:`~rewardhub.sandbox.runner` starts one run of a :mod:`~rewardhub.sandbox.program`, on
:mod:`~rewardhub.sandbox.remote` if so set; :mod:`~rewardhub.sandbox.watch` keeps its limits,
:mod:`~rewardhub.sandbox.judging` decides its verdict; :mod:`~rewardhub.sandbox.engine` owns the warm
processes (:mod:`~rewardhub.sandbox.zygote`) that runs are forked from (:mod:`~rewardhub.sandbox.forks`), each
into namespaces of its own, by system calls prepared in :mod:`~rewardhub.sandbox.steps`;
:mod:`~rewardhub.sandbox.launch` starts a process per run instead where none gets warm or isolation is
weak. Inside, :mod:`~rewardhub.sandbox.guard` runs a Python program, beside a
:mod:`~rewardhub.sandbox.hook` that knows the :mod:`~rewardhub.sandbox.objections` to what it may not do and
with :mod:`~rewardhub.sandbox.sound` assertions, and :mod:`~rewardhub.sandbox.script` runs one with
libraries. Zygote, launch and guard are scripts of processes of their own, so this package imports nothing.
"""
