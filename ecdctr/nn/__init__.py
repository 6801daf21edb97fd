"""Layers, cut by role. Shapes: B rows, F fields, T places of a history, K snapshots, D embedding_dim."""
