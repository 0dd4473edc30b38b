"""Bills of runs after the fact: Lambda's REPORT lines, and the same ranks at other memory sizes."""
