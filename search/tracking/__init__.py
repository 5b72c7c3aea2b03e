"""Shows studies in trackers: MLflow, TensorBoard, Weights & Biases.

Data flow one way: `reading` (queries) → `Run` → `exporting` (what a tracker lacks) → a module for each tracker, which
alone imports its client. What is exported already only the tracker knows.
"""
