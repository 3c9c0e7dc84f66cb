"""Health checks: what is sent to real servers, when, and what came of it. The verdicts are `core.health`'s."""
