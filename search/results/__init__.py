"""What is read back from the database: progress, rankings, evaluations, exports."""
