"""What is read back, from the database or from published tables: progress, rankings, evaluations, exports."""
