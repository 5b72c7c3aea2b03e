"""Scikit-learn's estimators as a problem: a grid search like GridSearchCV's, with the same figures fold by fold."""
