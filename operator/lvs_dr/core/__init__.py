"""Decisions and the compiled objects: pure and synchronous, without clock, socket, logging or randomness."""
