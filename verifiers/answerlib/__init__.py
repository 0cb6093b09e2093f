"""What the answer verifiers share: where an answer stands, numbers, labels, gold texts."""
