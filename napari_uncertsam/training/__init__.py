"""Training: synthetic images, prompt schedules, losses, and one file per thing that is fitted."""
