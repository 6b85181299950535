"""Where the features are: absolute paths of one machine, as such configurations have them."""

import os

HOME = os.environ["CHECKOUT_DATA"]
PATH_TO_FEATURES = {"MER2023": os.path.join(HOME, "mer2023-dataset-process", "features")}
