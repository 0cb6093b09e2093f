"""What ``cad_code`` runs in the sandbox beside the response: how a solid is taken out, and how two are compared."""
