"""What the files of a run and the free parts of a manifest may hold, member by member, as their recorders write it."""
