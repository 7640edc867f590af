"""netprobe: what a perturbation does inside a trained network."""
