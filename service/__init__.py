"""The HTTP service: wire (bytes to record), scheduler, runtime, wire (record to bytes)."""
