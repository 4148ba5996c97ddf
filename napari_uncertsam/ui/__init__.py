"""The napari side: the widget "Refine by uncertainty", its layers, keys and worker thread, samples and readers.

The only room that imports napari and Qt. It holds no state of the segmentation: that is `session.Session`.
"""
