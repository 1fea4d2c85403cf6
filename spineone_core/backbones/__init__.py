"""Feature extractors. State-dict keys of the ResNet parts are torchvision's, so that its weights load."""
