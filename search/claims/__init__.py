"""Claims about studies, each decided from the folds of searches and the rounds of final evaluations.

Data flow one way: `studies.claims_file` (what is claimed) → `training` (where studies are; rounds that are missing) →
`material` (what is there) → `by_rounds` and `by_folds` (findings, by `intervals`) → `deciding` → `sentences`, and
`search.report.claims`.
"""
