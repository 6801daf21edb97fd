"""Readers of public data sets, and the log simulator."""
