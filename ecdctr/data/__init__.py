"""Exact Parquet files in, batches of tensors out."""
