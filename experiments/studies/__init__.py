"""Many runs: the grid, the folder of each run, the loop over all, and the rows that they amount to."""
