"""Reading of uploads in sandboxed worker processes, so that a hostile file costs its own request and nothing else."""
