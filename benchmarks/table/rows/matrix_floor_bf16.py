"""The same with frozen weights in bfloat16, where the machine multiplies it in hardware."""

import dataclasses

from benchmarks.table.machine import NO_BF16, multiplies_bf16
from benchmarks.table.rows._training import floor

ROW = dataclasses.replace(floor("matrix_floor_bf16", "bfloat16"), impossible="" if multiplies_bf16() else NO_BF16)
