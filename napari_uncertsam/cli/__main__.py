"""``python -m napari_uncertsam.cli`` is the command ``napari-uncertsam``."""

from napari_uncertsam.cli.app import main

if __name__ == "__main__":
    main()
