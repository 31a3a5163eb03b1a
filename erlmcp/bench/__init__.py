"""The benchmarks that users can run: ``python -m erlmcp.bench.peers`` measures erlmcp beside its peers."""
