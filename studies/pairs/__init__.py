"""The paper's problem: which of two digits is smaller, by one of four networks."""
