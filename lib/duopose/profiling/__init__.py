"""What things cost: one module a stage, run by `tools/benchmark.py`. Above everything else in the import order, beside `engine`."""
