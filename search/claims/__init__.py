"""Claims about studies, each decided from the folds of searches and the rounds of final evaluations.

Data flow one way: `studies.claims_file` (what is claimed) → `material` (what is stored and published) → `weighing`
(evidence, by `intervals`) → `deciding` → `sentences`, and `search.report.claims`. `training` trains the rounds that are
missing.
"""
