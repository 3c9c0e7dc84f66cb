"""Load: what this node's is, what the others' are, and which weights follow from it. Decisions are `core`'s."""
