"""Training and evaluation of SpineOne; never imported by the node."""
