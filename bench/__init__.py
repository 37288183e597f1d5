"""The benchmark behind scripts/bench: stores, mounts, yardsticks, cases, report."""
