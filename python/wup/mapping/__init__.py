"""The mapping of venue assets to unified books: files, compiled table, and what keeps it fresh."""
