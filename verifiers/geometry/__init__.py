"""What the geometry verifiers share: reading, coordinate spaces, overlaps, masks, precision."""
