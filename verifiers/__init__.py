"""The rule verifiers: one family per file, pure functions. Import them as ``rewardhub.verifiers``."""

if __name__ == "verifiers":
    raise ImportError("this folder is the package rewardhub.verifiers; import it by that name")
