"""What operators ask of a whole installation: what is left of a visitor, who may do what, is all well."""
