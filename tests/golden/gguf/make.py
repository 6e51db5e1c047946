"""Writes what the `gguf` package finds in real models, for the reader to be held to.

Written with gguf 0.19.0 (`pip install gguf numpy`). Lists that are too long to keep are kept
as their FNV-1a hash (64 bits) over their elements, each followed by a zero byte.

    python make.py MODEL.gguf …  > models.json
"""

import json
import struct
import sys
from pathlib import Path

from gguf import GGUFReader, GGUFValueType


def fnv(elements) -> str:
    state = 0xCBF29CE484222325
    for element in elements:
        for byte in element + b"\0":
            state = (state ^ byte) * 0x100000001B3 % 2**64
    return f"{state:016x}"


def scalar(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # A float by its four bytes, which leave no room for printing.
    return struct.pack("<f", value).hex() if isinstance(value, float) else str(value)


def facts(path: str) -> dict:
    reader = GGUFReader(path)
    fields = {k: f for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    arrays = {k: f for k, f in fields.items() if f.types[0] == GGUFValueType.ARRAY}
    return {
        "scalars": [[k, scalar(f.contents())] for k, f in fields.items() if k not in arrays],
        "arrays": [
            [
                key,
                len(field.data),
                fnv(
                    v.encode() if isinstance(v, str) else scalar(v).encode()
                    for v in field.contents()
                ),
            ]
            for key, field in arrays.items()
        ],
        "tensors": len(reader.tensors),
        # Name, type, dimensions innermost first, size, first and last bytes.
        "tensor_table": fnv(
            f"{t.name} {t.tensor_type.name} {'x'.join(str(d) for d in t.shape)} "
            f"{t.n_bytes} ".encode()
            + bytes(t.data.reshape(-1).view("uint8")[:16]).hex().encode()
            + bytes(t.data.reshape(-1).view("uint8")[-16:]).hex().encode()
            for t in reader.tensors
        ),
    }


found = {Path(path).name: facts(path) for path in sys.argv[1:]}
print(json.dumps(found, indent=1))
