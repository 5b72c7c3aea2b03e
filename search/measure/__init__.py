"""The program that writes published tables; no other room imports it."""
