"""Twenty grid puzzles: reading boards and side data, and the rules of each puzzle."""
