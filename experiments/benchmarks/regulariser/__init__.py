"""What each regulariser of the table is worth, at every strength, unpruned and pruned."""
