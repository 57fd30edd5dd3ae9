"""What a run says once it is done: gauge, FSC, states, occupancy, coverage, diagnostics."""
