"""Statistical guesses of how far an attack would have to go; never to be read as proofs."""
