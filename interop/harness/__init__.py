"""What the cases stand on: peers as processes, pairs of them, the matrix of outcomes."""
