"""Measurements, each beside a yardstick in the same run: absolute times of a shared machine mean little."""
