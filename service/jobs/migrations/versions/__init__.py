"""One module for each revision of the jobs database, in order."""
