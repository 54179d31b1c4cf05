"""Recipes: each file's get_config(dataset) returns a full ConfigDict."""
