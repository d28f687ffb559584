"""Operations per second that a device's makers promise for matrix products."""

# Dense bf16 or fp16 products with fp32 sums, in 10^12 operations per second, from the makers' data
# sheets; the longest name that JAX's device kind contains counts.
BF16 = {
    "V100": 125,
    "A100": 312,
    "H100": 989,
    "H200": 989,
    "B200": 2250,
    "L4": 121,
    "L40S": 362,
    "TPU v3": 123,
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5e": 197,
    "TPU v5p": 459,
    "TPU v5": 459,
    "TPU v6 lite": 918,
    "TPU v6e": 918,
}


def peak(device_kind: str, dtype: str) -> float | None:
    """Operations per second, where they are known: of 16-bit products only."""
    known = [name for name in BF16 if name.lower() in device_kind.lower()]
    if dtype not in ("bfloat16", "float16") or not known:
        return None
    return BF16[max(known, key=len)] * 1e12
