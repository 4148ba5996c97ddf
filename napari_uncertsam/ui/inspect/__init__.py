"""The widget "Inspect failures": predictions beside the truth, worst first, and why."""
