"""The PACS-integrated node: receives studies, runs the detector, returns reports."""
