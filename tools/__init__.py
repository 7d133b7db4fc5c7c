"""The authors' tools: run them from the repository's root, as `python -m tools.notebooks`."""
