"""The service: transports take bytes in and out, the engine parses, schedules, runs and encodes."""
