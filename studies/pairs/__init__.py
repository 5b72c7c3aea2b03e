"""The paper's problem: is the first of two digits at most the second?"""
