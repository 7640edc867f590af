"""The groups of a result that belong to no single model, so that no model may have their names."""

PREFLIGHT, DOUBTS, COMPARISON, TIMING = "preflight", "doubts", "comparison", "timing"
NOT_A_MODEL = (PREFLIGHT, DOUBTS, COMPARISON, TIMING)
