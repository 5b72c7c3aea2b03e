"""scikit-learn's estimators as a problem: a grid search with the scores of GridSearchCV on every fold."""
