"""Benchmarks of jaxgfo: `python -m benchmarks NAME [--quick] [--json FILE]`."""
