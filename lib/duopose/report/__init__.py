"""The report of an evaluation: numbers, drawings and one html page, in separate modules."""
