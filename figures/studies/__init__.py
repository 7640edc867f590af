"""What the figures are drawn from: trainings and measurements of each work, at the scales smoke and paper."""
