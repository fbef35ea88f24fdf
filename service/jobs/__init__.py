"""Durable asynchronous jobs: work that outlives its client's connection, a crash and a new release."""
