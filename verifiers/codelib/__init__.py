"""What the ``code`` verifier reads from a response and a reference: the code, the modes, the bounds."""
