"""Test-time augmentation: look at changed copies of the image and see what the model makes of each.

:mod:`~napari_uncertsam.estimators.tta.photometric` has UncertSAM's two sets (method i), which change colours only;
:mod:`~napari_uncertsam.estimators.tta.geometric` is an extension that mirrors and turns.
"""
