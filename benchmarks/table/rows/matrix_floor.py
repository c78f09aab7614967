"""How much of a training step in float32 is matrix products: what a machine could not do without."""

from benchmarks.table.rows._training import floor

ROW = floor("matrix_floor", "float32")
