"""The modules whose change changes what the sandbox says of a program."""

_SANDBOX = (
    "engine", "guard", "judging", "languages", "launch", "namespaces", "objections", "packages", "place", "plain",
    "program", "remote", "runner", "script", "scrub", "seccomp", "sound", "verdicts", "watch", "zygote",
)  # fmt: skip

SANDBOX = (
    *(f"rewardhub.sandbox.{name}" for name in _SANDBOX),
    *(f"rewardhub.verifiers.codelib.{name}" for name in ("fences", "pytest_mode", "reference", "sources")),
)
