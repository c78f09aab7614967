"""Files become examples: formats, checks, splits, order, and the encoder protocol that families implement."""
