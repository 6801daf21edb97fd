"""Delta tables: their schemas, writes that land whole or not at all, pinned versions, the ledger."""
