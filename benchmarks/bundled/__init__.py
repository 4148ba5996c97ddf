"""Parts of ``bundled_model.py``; none is a script."""
