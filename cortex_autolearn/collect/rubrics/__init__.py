"""The rubrics of the package, one text a version."""
