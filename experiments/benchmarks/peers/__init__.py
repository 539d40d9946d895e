"""Our models against FuxiCTR's, deepctr-torch's and LightGBM's, on the ids of our preparation."""
